package operator

import (
	"fmt"
	"net"
	"strings"
	"text/template"
)

// serverText is the configuration of a [Server].
var serverText = newText(`# A nats-server for tenant {{.Tenant}}: nats-server -c THIS-FILE
#
{{- if .Include}}
# The included file, which no other user may read, sets these variables, one a line:
{{- else}}
# The server's environment sets these variables. Quotes are part of a value, as in '"secret"':
{{- end}}
{{- range .Users}}
#   {{$.Secret .}}
{{- end}}
{{- if .NKeys}}
# Each is the public key, U…, of a pair that "nk -gen user -pubout" makes.
{{- else}}
# A password passes the network as it is: add a "tls" block for clients on other machines.
{{- end}}
{{- if .Hosts}}
# Each server sets NATS_SERVER_NAME, too. Let only the servers reach each other's port 6222.
{{- end}}
{{if .Include}}
include "{{.Include}}"
{{- end}}
{{- if .Hosts}}
server_name: $NATS_SERVER_NAME
{{- end}}
listen: {{quote .Listen}}
max_pending: 4MB
jetstream {
  store_dir: {{quote .Store}}
{{- if not .Hosts}}
  sync_interval: always # a power cut loses nothing that was acknowledged
{{- end}}
  limits {
    duplicate_window: "100ms"
    batch { max_inflight_per_stream: 1, max_inflight_total: 10, max_msgs: 10, timeout: "1s" }
  }
}
{{- if .Hosts}}
cluster {
  name: {{quote .Tenant}}
  listen: "0.0.0.0:6222"
  routes: [
{{- range .Hosts}}
    "nats://{{.}}:6222"
{{- end}}
  ]
}
{{- end}}
accounts: {
{{.Account -}}
}
`)

// userText is the entry of a user in the configuration of a [Server].
var userText = newText(`
# {{quote .Name}}, {{.Role}}
{{- range $i, $name := .Services}}{{if $i}},{{else}} of{{end}} {{quote $name}}{{end}}:
#   {{if .NKeys}}nats.NkeyOptionFromSeed(FILE)
	{{- else}}nats.UserInfo({{quote .Name}}, PASSWORD){{end -}}
	, nats.CustomInboxPrefix("{{.Inbox}}")
#   {{if not .NKeys}}NATS_USER={{quote .Name}} NATS_PASSWORD=PASSWORD {{end -}}
	kvregistry {{.Command}} {{if .NKeys}}--nkey FILE {{end}}--inbox {{.Inbox}} --server {{.At}}
{
  {{if .NKeys}}nkey: ${{.Secret}}{{else}}user: {{quote .Name}}, password: ${{.Secret}}{{end}}
  {{indent .Allow}}
}`)

func newText(text string) *template.Template {
	return template.Must(template.New("").Funcs(template.FuncMap{"quote": quote,
		"indent": func(text string) string {
			return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ")
		},
	}).Parse(text))
}

func render(t *template.Template, data any) string {
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil { // the templates fit their data
		panic(err)
	}
	return b.String()
}

// url is where clients find the server.
func (s Server) url() string {
	host, port, _ := net.SplitHostPort(s.Listen)
	if len(s.Hosts) > 0 {
		host = s.Hosts[0]
	} else if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "HOST"
	}
	return "nats://" + net.JoinHostPort(host, port)
}

// command is what a user of a role runs, as an example.
func (s Server) command(role Role) string {
	of := " --tenant " + s.Tenant
	switch role {
	case RoleAdmin:
		return fmt.Sprintf("tenant create %s --max-bytes %d --replicas %d", s.Tenant,
			s.Limits.MaxBytes, s.Limits.Replicas)
	case RoleReaper:
		return "reaper" + of
	case RoleObserver:
		return "ls" + of
	case RoleOperator:
		return "drain SERVICE/ID" + of
	}
	return "register NAME --address HOST:PORT" + of
}
