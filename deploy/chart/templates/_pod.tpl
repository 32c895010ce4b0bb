{{/* What a service's pod and a job's pod have in common. */}}

{{/* Takes (service, class): where a pod runs, and before whom. */}}
{{- define "mekiki.placement" -}}
{{- $service := .service -}}
{{- $gpu := $service.values.gpu -}}
{{- $nodes := $service.values.nodeSelector -}}
{{- $taints := $service.values.tolerations -}}
{{- if $service.gpu -}}
{{- $nodes = merge (deepCopy $nodes) $gpu.nodeSelector -}}
{{- $taints = concat $taints $gpu.tolerations -}}
{{- with $gpu.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- end }}
{{- with $service.root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with include "mekiki.priority" (dict "root" $service.root "class" .class) }}
priorityClassName: {{ . }}
{{- end }}
{{- with $nodes }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $taints }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
# Variables such as MEKIKI_CODEC_PORT, made from the names of Services, must not pass for settings.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Takes (service, resources, job): a container without its name and command. */}}
{{- define "mekiki.container" -}}
{{- $service := .service -}}
image: {{ include "mekiki.image" $service | quote }}
imagePullPolicy: {{ $service.root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources:
  {{- $resources := deepCopy .resources }}
  {{- if $service.gpu }}
  {{- $limits := dig "limits" dict $resources }}
  {{- $_ := set $limits $service.values.gpu.resource $service.values.gpu.count }}
  {{- $_ := set $resources "limits" $limits }}
  {{- end }}
  {{- toYaml $resources | nindent 2 }}
env: {{- include "mekiki.env" . | trim | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: cache, mountPath: /var/cache/mekiki}
  {{- if $service.root.Values.weights.claim }}
  - {name: weights, mountPath: /var/lib/mekiki/weights, readOnly: true}
  {{- end }}
  {{- range $volume := include "mekiki.secrets" . | fromYamlArray }}
  - {name: {{ $volume.name }}, mountPath: {{ $volume.path }}, readOnly: true}
  {{- end }}
  {{- if and (not .job) (eq $service.config.runner "kubernetes") }}
  - {name: job, mountPath: /etc/mekiki, readOnly: true}
  {{- end }}
{{- end -}}

{{/* Takes (service, job): the Secrets that are mounted, as files, whole folders, so that a rotated one is seen. */}}
{{- define "mekiki.secrets" -}}
{{- $root := .service.root -}}
{{- if $root.Values.tls.enabled }}
- {name: tls, secret: {{ include "mekiki.tlsSecret" $root }}, path: /run/secrets/mekiki/tls}
{{- end }}
{{- with $root.Values.auth }}
{{- if and .enabled (not $.job) .tokensSecret }}
- {name: tokens, secret: {{ .tokensSecret }}, path: /run/secrets/mekiki/tokens, field: auth_tokens, file: tokens.json}
{{- end }}
{{- if and .enabled (not $.job) .jwksSecret }}
- {name: jwks, secret: {{ .jwksSecret }}, path: /run/secrets/mekiki/jwks, field: auth_jwks, file: jwks.json}
{{- end }}
{{- if and .enabled .serviceTokenSecret }}
- {name: service-token, secret: {{ .serviceTokenSecret }}, path: /run/secrets/mekiki/service-token, field: service_token_file, file: token}
{{- end }}
{{- end }}
{{- end -}}

{{/* Takes (service, tmp, job). */}}
{{- define "mekiki.volumes" -}}
{{- $root := .service.root -}}
- name: tmp
  emptyDir: {sizeLimit: {{ .tmp }}}
- name: cache
  emptyDir: {sizeLimit: {{ .service.values.cacheSize }}}
{{- with $root.Values.weights.claim }}
- name: weights
  persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
{{- end }}
{{- range $volume := include "mekiki.secrets" . | fromYamlArray }}
- name: {{ $volume.name }}
  secret: {secretName: {{ $volume.secret }}, defaultMode: 0440}
{{- end }}
{{- if and (not .job) (eq .service.config.runner "kubernetes") }}
- name: job
  configMap: {name: {{ include "mekiki.jobName" .service }}}
{{- end }}
{{- end -}}

{{/* Takes (service, job): the settings, what the chart knows of them by itself, and the object store. */}}
{{- define "mekiki.env" -}}
{{- $service := .service -}}
{{- $known := include "mekiki.known" . | fromYaml -}}
{{- range $field, $value := $service.config }}
{{- $said := ternary (index $known $field | default "") $value (and (kindIs "string" $value) (eq (toString $value) "")) }}
{{- if and $.job (has $field (list "runner" "job_template" "max_jobs")) }}{{ $said = "" }}{{ end }}
{{- if and (eq $field "device") (not $service.facts.gpu) }}{{ $said = "cpu" }}{{ end }}
{{- if not (and (kindIs "string" $said) (eq (toString $said) "")) }}
- {name: MEKIKI_{{ upper $field }}, value: {{ ternary $said (toJson $said) (kindIs "string" $said) | quote }}}
{{- end }}
{{- end }}
{{- $store := $service.root.Values.objectStore }}
{{- with $store.endpoint }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
- {name: AWS_REGION, value: {{ $store.region | quote }}}
{{- with include "mekiki.storeSecret" $service.root }}
{{- $secret := . }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ . }}}}
{{- end }}
{{- end }}
{{- range $variable, $value := $service.values.env }}
- {name: {{ $variable }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{/* Settings that follow from other keys of the chart, where config leaves them empty. */}}
{{- define "mekiki.known" -}}
{{- $service := .service -}}
{{- $root := $service.root -}}
{{- range $service.facts.calls }}
{{ . }}_address: {{ include "mekiki.address" (dict "root" $root "name" .) }}
{{- end }}
{{- if eq $service.config.runner "kubernetes" }}
job_template: /etc/mekiki/job.yaml
{{- end }}
{{- if $root.Values.tls.enabled }}
tls_cert: /run/secrets/mekiki/tls/tls.crt
tls_key: /run/secrets/mekiki/tls/tls.key
tls_ca: /run/secrets/mekiki/tls/ca.crt
{{- if $root.Values.tls.mutual }}
tls_client_ca: /run/secrets/mekiki/tls/ca.crt
{{- end }}
{{- end }}
{{- range $volume := include "mekiki.secrets" . | fromYamlArray }}
{{- with $volume.field }}
{{ . }}: {{ $volume.path }}/{{ $volume.file }}
{{- end }}
{{- end }}
{{- if $root.Values.weights.claim }}
weights_dir: /var/lib/mekiki/weights
{{- end }}
{{- end -}}
