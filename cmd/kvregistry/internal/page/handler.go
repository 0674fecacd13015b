package page

import (
	"context"
	"crypto/rand"
	"embed"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"time"

	"github.com/kvregistry/go/cmd/kvregistry/internal/doctor"
	"github.com/kvregistry/go/kvregistry"
)

// DefaultClients is how many pages may be open at once if [Config.Clients] is 0.
const DefaultClients = 64

// Config says what a page shows and may do. The zero value is a page that reads.
type Config struct {
	Tenant  string   // shown as the title
	Hosts   []string // names under which the page is served, beside localhost
	Clients int      // open pages at most; 0 is [DefaultClients]

	// Holds reads who holds or waits for the tenant's exclusive names: see [ReadHolds]. Without it
	// the page does not show them.
	Holds func(context.Context) ([]Hold, error)
	// Examine looks for faults. Without it the page has no such view.
	Examine func(context.Context) (doctor.Report, error)

	// Drain asks an instance's owner to drain it, and Deregister removes an instance. Without them
	// the page has no such buttons.
	Drain, Deregister func(ctx context.Context, service, id string) error
}

//go:embed assets
var embedded embed.FS

// handler is what all requests share.
type handler struct {
	reg     *kvregistry.Registry
	cfg     Config
	token   string        // that a write has to show
	clients chan struct{} // a place for each open page
	past    *past
	leases  recent[[]kvregistry.Lease]
	holds   recent[[]Hold]
	faults  recent[doctor.Report]
}

// Handler returns the page of a registry. It makes the registry observe everything, and follows it
// until the registry is closed.
func Handler(reg *kvregistry.Registry, cfg Config) http.Handler {
	if cfg.Clients == 0 {
		cfg.Clients = DefaultClients
	}
	_ = reg.Observe(kvregistry.Everything) // a closed registry has nothing to watch
	h := &handler{reg: reg, cfg: cfg, token: rand.Text(),
		clients: make(chan struct{}, cfg.Clients), past: follow(reg)}
	h.leases.read = reg.Leases
	h.holds.read = cfg.Holds
	h.faults.read = cfg.Examine
	h.faults.fresh, h.faults.most = examinedTime, examineTime

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", asset("index.html"))
	files, _ := fs.ReadDir(embedded, "assets") // it is embedded
	for _, file := range files {
		mux.HandleFunc("GET /"+file.Name(), asset(file.Name()))
	}
	mux.HandleFunc("GET /api/stream", h.stream)
	mux.HandleFunc("GET /api/instance", h.instance)
	mux.HandleFunc("GET /api/changes", h.changes)
	mux.HandleFunc("GET /api/leases", h.listLeases)
	mux.HandleFunc("GET /api/holds", h.listHolds)
	mux.HandleFunc("GET /api/doctor", h.examine)
	mux.HandleFunc("GET /api/health", h.health)
	mux.HandleFunc("POST /api/drain", h.write(cfg.Drain))
	mux.HandleFunc("POST /api/deregister", h.write(cfg.Deregister))
	return guard(cfg.Hosts, mux)
}

// asset serves an embedded file.
func asset(name string) http.HandlerFunc {
	body, err := embedded.ReadFile(path.Join("assets", name))
	if err != nil {
		panic(err) // the program was built without its page
	}
	kind := mime.TypeByExtension(path.Ext(name))
	if path.Ext(name) == ".js" { // a machine's own table may say otherwise
		kind = "text/javascript; charset=utf-8"
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(body) // a client that is gone needs no answer
	}
}

const (
	examinedTime = 5 * time.Second // for which a result of Config.Examine is given again
	examineTime  = time.Minute     // that Config.Examine may take
)
