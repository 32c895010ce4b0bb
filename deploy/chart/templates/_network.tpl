{{/* Who may reach a service and whom it may reach; its jobs are reached by nobody. */}}
{{- define "mekiki.network" -}}
{{- $root := .root -}}
{{- $policy := $root.Values.networkPolicy -}}
{{- $callers := list -}}
{{- range $caller, $facts := include "mekiki.facts" $root | fromYaml }}
{{- if has $.name $facts.calls }}{{ $callers = concat $callers (list $caller (printf "%s-job" $caller)) }}{{ end }}
{{- end -}}
{{- $out := include "mekiki.egress" . | trim -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "mekiki.full" $root }}-{{ .name }}
  labels: {{- include "mekiki.labels" $root | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "mekiki.selector" (dict "root" $root "component" .name) | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        {{- toYaml $policy.clients | nindent 8 }}
        {{- range $callers }}
        - podSelector:
            matchLabels: {{- include "mekiki.selector" (dict "root" $root "component" .) | nindent 14 }}
        {{- end }}
      ports: [{port: {{ .config.port }}, protocol: TCP}]
    - from: {{- toYaml $policy.prometheus | nindent 8 }}
      ports: [{port: {{ .config.metrics_port }}, protocol: TCP}]
  egress:
    {{- $out | nindent 4 }}
    {{- if eq .config.runner "kubernetes" }}
    {{- include "mekiki.reach" $policy.apiServer | nindent 4 }}
    {{- end }}
{{- if eq .config.runner "kubernetes" }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "mekiki.full" $root }}-{{ .name }}-job
  labels: {{- include "mekiki.labels" $root | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "mekiki.selector" (dict "root" $root "component" (printf "%s-job" .name)) | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress: []
  egress: {{- $out | nindent 4 }}
{{- end }}
{{- end -}}

{{/* DNS, the services next door, the object store, the collector of traces. */}}
{{- define "mekiki.egress" -}}
{{- $root := .root -}}
- to: {{- toYaml $root.Values.networkPolicy.dns | nindent 4 }}
  ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- range .facts.calls }}
- to:
    - podSelector:
        matchLabels: {{- include "mekiki.selector" (dict "root" $root "component" .) | nindent 10 }}
  ports: [{port: {{ include "mekiki.port" (dict "root" $root "name" . "field" "port") }}, protocol: TCP}]
{{- end }}
{{ include "mekiki.reach" $root.Values.networkPolicy.objectStore }}
{{- if .config.traces_endpoint }}
{{ include "mekiki.reach" $root.Values.networkPolicy.traces }}
{{- end }}
{{- end -}}

{{/* Takes (peers, ports); no peers are all. */}}
{{- define "mekiki.reach" -}}
- ports:
    {{- range .ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .peers }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
