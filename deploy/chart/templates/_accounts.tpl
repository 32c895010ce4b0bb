{{/* A service's account, which may start Jobs where they are Kubernetes', and its jobs' account, which may nothing. */}}
{{- define "mekiki.accounts" -}}
{{- $full := include "mekiki.full" .root -}}
{{- $starts := eq .config.runner "kubernetes" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $full }}-{{ .name }}
  labels: {{- include "mekiki.labels" .root | nindent 4 }}
  {{- with .root.Values.serviceAccount.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- if $starts }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $full }}-{{ .name }}-job
  labels: {{- include "mekiki.labels" .root | nindent 4 }}
  {{- with .root.Values.serviceAccount.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $full }}-{{ .name }}-jobs
  labels: {{- include "mekiki.labels" .root | nindent 4 }}
rules:
  - {apiGroups: [batch], resources: [jobs], verbs: [create, get, list, watch, delete]}
  - {apiGroups: [""], resources: [pods], verbs: [get, list]}
  - {apiGroups: [""], resources: [pods/log], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $full }}-{{ .name }}-jobs
  labels: {{- include "mekiki.labels" .root | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ $full }}-{{ .name }}-jobs}
subjects:
  - {kind: ServiceAccount, name: {{ $full }}-{{ .name }}, namespace: {{ .root.Release.Namespace }}}
{{- end }}
{{- end -}}
