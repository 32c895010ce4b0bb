{{/* The Job that every job of a service is made from: the runner adds its name and the arguments (of Python, the entry point). */}}
{{- define "mekiki.job" -}}
{{- $component := printf "%s-job" .name -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "mekiki.full" .root }}-{{ $component }}
  labels:
    {{- include "mekiki.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
data:
  job.yaml: |
    apiVersion: batch/v1
    kind: Job
    metadata:
      namespace: {{ .root.Release.Namespace }}
      labels: {{- include "mekiki.selector" (dict "root" .root "component" $component) | nindent 8 }}
    spec:
      # A lost worker is started again by its service, from the last checkpoint.
      backoffLimit: 0
      activeDeadlineSeconds: {{ .values.job.deadlineSeconds }}
      ttlSecondsAfterFinished: {{ .values.job.keepSeconds }}
      template:
        metadata:
          labels: {{- include "mekiki.selector" (dict "root" .root "component" $component) | nindent 12 }}
          {{- with .values.podAnnotations }}
          annotations: {{- toYaml . | nindent 12 }}
          {{- end }}
        spec:
          {{- include "mekiki.placement" (dict "service" . "class" "jobs") | trim | nindent 10 }}
          serviceAccountName: {{ include "mekiki.full" .root }}-{{ $component }}
          automountServiceAccountToken: false
          restartPolicy: Never
          terminationGracePeriodSeconds: 30
          containers:
            - name: job
              {{- include "mekiki.container" (dict "service" . "resources" .values.job.resources "job" true) | nindent 14 }}
          volumes: {{- include "mekiki.volumes" (dict "service" . "tmp" .values.job.tmpSize "job" true) | nindent 12 }}
{{- end -}}
