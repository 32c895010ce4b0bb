{{- define "mekiki.scaling" -}}
{{- $full := include "mekiki.full" .root -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $full }}-{{ .name }}
  labels: {{- include "mekiki.labels" .root | nindent 4 }}
spec:
  maxUnavailable: {{ .values.maxDisrupted }}
  # A pod that does not serve protects nobody.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "mekiki.selector" (dict "root" .root "component" .name) | nindent 6 }}
{{- with .values.autoscaling }}
{{- if .enabled }}
{{- if lt (int .maxReplicas) (int .minReplicas) }}
{{- fail (printf "services.%s.autoscaling.maxReplicas is %d, less than minReplicas, %d" $.name (int .maxReplicas) (int .minReplicas)) }}
{{- end }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $full }}-{{ $.name }}
  labels: {{- include "mekiki.labels" $.root | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ $full }}-{{ $.name }}}
  minReplicas: {{ .minReplicas }}
  maxReplicas: {{ .maxReplicas }}
  metrics:
    {{- if eq .metric "queue_wait" }}
    - type: Pods
      pods:
        metric: {name: mekiki_queue_wait_seconds}
        # A thousandth of a second is a milli-unit.
        target: {type: AverageValue, averageValue: {{ .queueWaitMs }}m}
    {{- else }}
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ .cpuPercent }}}
    {{- end }}
  behavior:
    scaleUp:
      stabilizationWindowSeconds: 0
      policies: [{type: Percent, value: 100, periodSeconds: 15}, {type: Pods, value: 2, periodSeconds: 15}]
    scaleDown:
      stabilizationWindowSeconds: {{ .scaleDownAfterSeconds }}
      policies: [{type: Pods, value: 1, periodSeconds: 15}]
{{- end }}
{{- end }}
{{- end -}}
