{{/* What the chart knows of each service; tests hold it against the code. */}}
{{- define "mekiki.facts" -}}
codec: {health: mekiki.codec.v1.CodecService, calls: [], gpu: false}
saliency: {health: mekiki.saliency.v1.SaliencyService, calls: [codec], gpu: true}
boxfit: {health: mekiki.boxfit.v1.BoxfitService, calls: [codec, saliency], gpu: false}
anomaly: {health: mekiki.anomaly.v1.AnomalyService, calls: [codec], gpu: true}
{{- end -}}

{{- define "mekiki.full" -}}
{{- if gt (len .Release.Name) 40 }}{{ fail "the release's name must have at most 40 characters" }}{{ end -}}
{{ .Release.Name }}
{{- end -}}

{{/* Labels of what belongs to nothing smaller than the release. */}}
{{- define "mekiki.labels" -}}
app.kubernetes.io/name: mekiki
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* Takes (root, component): a service, or <service>-job. */}}
{{- define "mekiki.selector" -}}
app.kubernetes.io/name: mekiki
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "mekiki.image" -}}
{{- $image := .root.Values.image -}}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ $image.repository }}-{{ .name }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}

{{/* Takes (root, name, field): a port of a service, its own setting or everybody's. */}}
{{- define "mekiki.port" -}}
{{- $own := (index .root.Values.services .name).config | default dict -}}
{{ index $own .field | default (index .root.Values.config .field) }}
{{- end -}}

{{- define "mekiki.address" -}}
{{ include "mekiki.full" .root }}-{{ .name }}-headless.{{ .root.Release.Namespace }}.svc:
{{- include "mekiki.port" (dict "root" .root "name" .name "field" "port") }}
{{- end -}}

{{- define "mekiki.tlsSecret" -}}
{{ .Values.tls.existingSecret | default (printf "%s-tls" (include "mekiki.full" .)) }}
{{- end -}}

{{- define "mekiki.storeSecret" -}}
{{- $store := .Values.objectStore -}}
{{- if $store.existingSecret }}{{ $store.existingSecret }}
{{- else if $store.accessKeyId }}{{ include "mekiki.full" . }}-store
{{- end }}
{{- end -}}

{{/* Takes (root, class): "serving" or "jobs". */}}
{{- define "mekiki.priority" -}}
{{- if .root.Values.priorityClasses.create -}}
{{ .root.Release.Namespace }}-{{ include "mekiki.full" .root }}-{{ .class }}
{{- else -}}
{{ index .root.Values.priorityClasses .class }}
{{- end }}
{{- end -}}
