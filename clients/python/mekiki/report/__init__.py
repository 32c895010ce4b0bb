"""Reports: self-contained HTML files, no script, nothing fetched, fit for paper and for a telephone."""
