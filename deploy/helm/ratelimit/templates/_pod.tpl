{{- /* A number or a text as a text. The numbers of a values file are floats, which would be printed as 1e+06. */}}
{{- define "ratelimit.text" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ toJson . }}{{ end }}
{{- end }}

{{- /* The metadata of an object: its name, its own labels and annotations, and those of all objects. */}}
{{- define "ratelimit.metadata" -}}
{{- $metadata := dict "name" .name }}
{{- with merge (dict) (.labels | default dict) .root.Values.labels }}{{ $_ := set $metadata "labels" . }}{{ end }}
{{- with merge (dict) (.annotations | default dict) .root.Values.annotations }}{{ $_ := set $metadata "annotations" . }}{{ end }}
{{- toJson $metadata }}
{{- end }}

{{- /* The metadata of the pods of a workload. */}}
{{- define "ratelimit.podMetadata" -}}
{{- $own := dict "app.kubernetes.io/name" .name }}
{{- $labels := merge $own .values.podLabels .root.Values.labels }}
{{- dict "labels" $labels "annotations" (merge .annotations .values.podAnnotations) | toJson }}
{{- end }}

{{- define "ratelimit.image" -}}
{{- $image := .root.Values.image }}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
ratelimit-{{ .name }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "ratelimit.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary .Release.Name "" .Values.serviceAccount.create) }}
{{- end }}

{{- /* What all pods have in common, and what may be chosen for those of each workload. */}}
{{- define "ratelimit.pod" -}}
automountServiceAccountToken: false
# Without this, a Service called redis would set REDIS_PORT to a URL.
enableServiceLinks: false
{{- with include "ratelimit.serviceAccount" .root }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
securityContext: {{ toJson .values.podSecurityContext }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- with index $.values $field }}
{{ $field }}: {{ toJson . }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The memory that Redis may take: half of what its container may have, unless it is given. */}}
{{- define "ratelimit.maxmemory" -}}
{{- if .Values.redis.maxmemory }}
{{- include "ratelimit.text" .Values.redis.maxmemory }}
{{- else }}
{{- $memory := dig "limits" "memory" "" (.Values.redis.resources | default dict) | include "ratelimit.text" }}
{{- $number := regexFind "^[0-9]+([.][0-9]+)?" $memory }}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- $unit := trimPrefix $number $memory }}
{{- if not (and $number (hasKey $units $unit)) }}
{{- fail (printf "redis.maxmemory: required, since redis.resources.limits.memory is %q" $memory) }}
{{- end }}
{{- $mebibytes := divf (mulf $number (get $units $unit)) 2097152 | floor | int64 }}
{{- if lt $mebibytes 1 }}
{{- fail (printf "redis.resources.limits.memory: %q is too little for Redis" $memory) }}
{{- end }}
{{- printf "%dmb" $mebibytes }}
{{- end }}
{{- end }}
