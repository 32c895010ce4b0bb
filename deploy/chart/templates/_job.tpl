{{/* The Job that every job of a service is made from: the runner adds its name and the arguments (of Python, the entry point). */}}
{{- define "mekiki.jobTemplate" -}}
{{- $component := printf "%s-job" .name -}}
apiVersion: batch/v1
kind: Job
metadata:
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "mekiki.selector" (dict "root" .root "component" $component) | nindent 4 }}
spec:
  # A lost worker is started again by its service, from the last checkpoint.
  backoffLimit: 0
  activeDeadlineSeconds: {{ .values.job.deadlineSeconds }}
  ttlSecondsAfterFinished: {{ .values.job.keepSeconds }}
  template:
    metadata:
      labels: {{- include "mekiki.selector" (dict "root" .root "component" $component) | nindent 8 }}
      {{- with .values.podAnnotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      {{- include "mekiki.placement" (dict "service" . "class" "jobs") | trim | nindent 6 }}
      serviceAccountName: {{ include "mekiki.full" .root }}-{{ $component }}
      automountServiceAccountToken: false
      restartPolicy: Never
      terminationGracePeriodSeconds: 30
      containers:
        - name: job
          {{- include "mekiki.container" (dict "service" . "resources" .values.job.resources "job" true) | nindent 10 }}
      volumes: {{- include "mekiki.volumes" (dict "service" . "tmp" .values.job.tmpSize "job" true) | nindent 8 }}
{{- end -}}

{{/* By its content: a pod reads it once, so that a changed one is for new pods. */}}
{{- define "mekiki.jobName" -}}
{{ include "mekiki.full" .root }}-{{ .name }}-job-{{ include "mekiki.jobTemplate" . | sha256sum | trunc 8 }}
{{- end -}}

{{- define "mekiki.job" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "mekiki.jobName" . }}
  labels:
    {{- include "mekiki.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
immutable: true
data:
  job.yaml: |
    {{- include "mekiki.jobTemplate" . | nindent 4 }}
{{- end -}}
