"""Codec answers: how is a data set kept small, and how is an image made comparable?"""
