{{- define "mekiki.deployment" -}}
{{- $selector := include "mekiki.selector" (dict "root" .root "component" .name) -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "mekiki.full" .root }}-{{ .name }}
  labels:
    {{- include "mekiki.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
spec:
  {{- if not .values.autoscaling.enabled }}
  replicas: {{ .values.replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels: {{- $selector | nindent 6 }}
  template:
    metadata:
      labels: {{- $selector | nindent 8 }}
      {{- with .values.podAnnotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      {{- include "mekiki.placement" (dict "service" . "class" "serving") | trim | nindent 6 }}
      serviceAccountName: {{ include "mekiki.full" .root }}-{{ .name }}
      automountServiceAccountToken: {{ eq .config.runner "kubernetes" }}
      # The drain, the pause before it, the service's local jobs (5 s) and room to write down what they were at.
      terminationGracePeriodSeconds: {{ add (ceil .config.drain_timeout_s) 18 }}
      topologySpreadConstraints:
        {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: {{ $.values.spread }}
          labelSelector:
            matchLabels: {{- $selector | nindent 14 }}
          matchLabelKeys: [pod-template-hash]
        {{- end }}
      containers:
        - name: {{ .name }}
          {{- include "mekiki.container" (dict "service" . "resources" .values.resources "job" false) | nindent 10 }}
          ports:
            - {name: grpc, containerPort: {{ .config.port }}}
            - {name: metrics, containerPort: {{ .config.metrics_port }}}
            - {name: health, containerPort: {{ .config.health_port }}}
          {{- include "mekiki.probes" . | trim | nindent 10 }}
          lifecycle:
            # Endpoints lag: until every client and proxy knows, calls still come here.
            preStop: {sleep: {seconds: 3}}
      volumes: {{- include "mekiki.volumes" (dict "service" . "tmp" .values.tmpSize "job" false) | nindent 8 }}
{{- end -}}

{{/* Of the plain health port: the kubelet speaks no TLS. Liveness asks for the process, the others for the service. */}}
{{- define "mekiki.probes" -}}
{{- range $probe, $times := include "mekiki.probeTimes" . | fromYaml }}
{{ $probe }}:
  grpc:
    port: {{ $.config.health_port }}
    service: {{ ternary "" $.facts.health (eq $probe "livenessProbe") | quote }}
  {{- toYaml $times | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "mekiki.probeTimes" -}}
startupProbe: {periodSeconds: 1, timeoutSeconds: 2, failureThreshold: 180}
readinessProbe: {periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 2}
# Slow to kill: a busy service is not a dead one.
livenessProbe: {periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
{{- end -}}
