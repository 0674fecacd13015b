package page

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/kvregistry/go/cmd/kvregistry/internal/doctor"
	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/tenant"
)

// lease is a lease as the page gets it.
type lease struct {
	ID            string    `json:"id"`
	Owner         string    `json:"owner"`
	Host          string    `json:"host"`
	PID           int       `json:"pid"`
	Started       time.Time `json:"started,omitzero"`
	TTL           float64   `json:"ttl_seconds"`
	Age           float64   `json:"age_seconds"`
	Registrations int       `json:"registrations"`
}

// listLeases answers with the leases of the tenant, and what lives by each.
func (h *handler) listLeases(w http.ResponseWriter, r *http.Request) {
	found, at, err := h.leases.get(r.Context())
	if err != nil {
		fail(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	alive := map[string]int{}
	if all, err := h.reg.CatalogContext(r.Context()); err == nil {
		for s := range all.All() {
			for one := range s.All() {
				alive[one.Lease]++
			}
		}
	}
	list := make([]lease, len(found))
	for i, l := range found {
		list[i] = lease{l.ID, l.Owner, l.Host, l.PID, l.Started, l.TTL.Seconds(), l.Age.Seconds(),
			alive[l.ID]}
	}
	reply(w, struct {
		At     time.Time `json:"at"`
		Leases []lease   `json:"leases"`
	}{at, list})
}

// Hold is a place in the line for an exclusive name. The first place holds the name.
type Hold struct {
	Name  string    `json:"name"`
	Place int       `json:"place"` // from 1 on
	Token uint64    `json:"token"` // the fencing token, once the place is the first
	Owner string    `json:"owner"`
	Lease string    `json:"lease"`
	Since time.Time `json:"since"` // in the line, by the server's clock
}

// ReadHolds returns a function for [Config.Holds], which reads the lines of a tenant.
func ReadHolds(b *tenant.Bucket) func(context.Context) ([]Hold, error) {
	return func(ctx context.Context) ([]Hold, error) {
		found := map[string]Hold{}
		_, err := b.Scan(ctx, tenant.AllTickets, func(m tenant.Message) {
			delete(found, m.Key)
			if one, ok := holdOf(&m); ok {
				found[m.Key] = one
			}
		})
		if err != nil {
			return nil, err
		}
		list := slices.AppendSeq([]Hold{}, maps.Values(found))
		slices.SortFunc(list, func(a, b Hold) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Token, b.Token))
		})
		for i := range list {
			list[i].Place = 1
			if i > 0 && list[i].Name == list[i-1].Name {
				list[i].Place = list[i-1].Place + 1
			}
		}
		return list, nil
	}
}

// holdOf reads a ticket. Bytes that are no ticket have no place.
func holdOf(m *tenant.Message) (Hold, bool) {
	name, _, ok := tenant.ParseTicketKey(m.Key)
	head := wire.HeadOf(m.Value)
	if m.Op != tenant.Put || !ok || !head.Lives() {
		return Hold{}, false
	}
	return Hold{Name: name, Token: m.Revision, Owner: head.Owner, Lease: head.Lease,
		Since: m.Time()}, true
}

// listHolds answers with the exclusive names of the tenant.
func (h *handler) listHolds(w http.ResponseWriter, r *http.Request) {
	if h.cfg.Holds == nil {
		fail(w, http.StatusNotFound, "the page does not read exclusive names")
		return
	}
	list, _, err := h.holds.get(r.Context())
	if err != nil {
		fail(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	reply(w, list)
}

// examine answers with what the doctor found.
func (h *handler) examine(w http.ResponseWriter, r *http.Request) {
	if h.cfg.Examine == nil {
		fail(w, http.StatusNotFound, "the page has no doctor")
		return
	}
	report, at, err := h.faults.get(r.Context())
	if err != nil {
		fail(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	reply(w, struct {
		At     time.Time     `json:"at"`
		Report doctor.Report `json:"report"`
	}{at, report})
}
