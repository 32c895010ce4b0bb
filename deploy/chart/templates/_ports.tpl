{{/* Headless for clients that balance by themselves, ClusterIP for those that cannot, and for the metrics. */}}
{{- define "mekiki.ports" -}}
{{- $full := include "mekiki.full" .root -}}
{{- $selector := include "mekiki.selector" (dict "root" .root "component" .name) -}}
{{- $protocol := ternary "" ", appProtocol: kubernetes.io/h2c" .root.Values.tls.enabled -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ $full }}-{{ .name }}-headless
  labels:
    {{- include "mekiki.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
spec:
  clusterIP: None
  selector: {{- $selector | nindent 4 }}
  ports:
    - {name: grpc, port: {{ .config.port }}, targetPort: grpc{{ $protocol }}}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $full }}-{{ .name }}
  labels:
    {{- include "mekiki.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
spec:
  type: ClusterIP
  selector: {{- $selector | nindent 4 }}
  ports:
    - {name: grpc, port: {{ .config.port }}, targetPort: grpc{{ $protocol }}}
    - {name: metrics, port: {{ .config.metrics_port }}, targetPort: metrics}
{{- end -}}
