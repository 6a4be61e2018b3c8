{{/* One name for all objects: the release's, with "wavegate" in it. */}}
{{- define "wavegate.name" -}}
{{- if contains "wavegate" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-wavegate" (.Release.Name | trunc 41 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "wavegate.selectorLabels" -}}
app.kubernetes.io/name: wavegate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "wavegate.labels" -}}
{{ include "wavegate.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "wavegate.image" -}}
{{- $repository := required "image.repository is empty. Build the Dockerfile, push it, and set image.repository to where it is (image.digest to what was pushed)." .Values.image.repository -}}
{{- $image := printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- with .Values.image.digest }}{{ $image = printf "%s@%s" $image . }}{{ end -}}
{{- $image -}}
{{- end -}}

{{/* CEL: all images of the pod in the variable that is given by name. */}}
{{- define "wavegate.imagesOf" -}}
{{ . }}.spec.containers.map(c, c.?image.orValue(""))
+ {{ . }}.spec.?initContainers.orValue([]).map(c, c.?image.orValue(""))
+ {{ . }}.spec.?ephemeralContainers.orValue([]).map(c, c.?image.orValue(""))
+ {{ . }}.spec.?volumes.orValue([]).filter(v, has(v.image)).map(v, v.image.?reference.orValue(""))
{{- end -}}

{{/* Files of templates with admission policies. */}}
{{- define "wavegate.admissionFiles" -}}
admission.yaml
admission-confinement.yaml
admission-decisions.yaml
admission-reserved.yaml
{{- end -}}

{{/* The admission policies and bindings that are installed, each as group/version/plural/name. The operator looks for
them at its start, and may read them. */}}
{{- define "wavegate.policies" -}}
{{- $found := list -}}
{{- range $file := include "wavegate.admissionFiles" . | splitList "\n" -}}
{{- range $document := include (print $.Template.BasePath "/" $file) $ | splitList "\n---" -}}
{{- with fromYaml $document -}}
{{- $plural := .kind | lower | printf "%ss" | replace "policys" "policies" -}}
{{- $found = append $found (printf "%s/%s/%s" .apiVersion $plural .metadata.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- join "," $found -}}
{{- end -}}
