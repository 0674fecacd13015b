package page

import (
	"maps"
	"net/http"
	"slices"
	"sort"

	"github.com/kvregistry/go/internal/shown"
	"github.com/kvregistry/go/kvregistry"
)

// The stream cuts what is long, so that no record of 64 KB is sent to each page thousands of times.
// The whole instance is read when it is opened.
const (
	longestText = 200 // bytes of a text
	mostTexts   = 24  // tags, metadata or endpoints
)

// instance is an instance as the page gets it.
type instance struct {
	kvregistry.Service
	Owner    string `json:"owner,omitempty"`
	Lease    string `json:"lease,omitempty"`
	Revision uint64 `json:"revision"`
	Cut      bool   `json:"cut,omitempty"` // something is left out
}

// whole is an instance with everything except the secrets of its URLs.
func whole(s *kvregistry.Service) *instance {
	one := &instance{Service: *s, Owner: s.Owner, Lease: s.Lease, Revision: s.Revision}
	one.Address, one.URL = shown.Redact(one.Address), shown.Redact(one.URL)
	for name, at := range one.Endpoints {
		if clean := shown.Redact(at); clean != at {
			one.Endpoints = maps.Clone(one.Endpoints)
			one.Endpoints[name] = clean
		}
	}
	return one
}

// short is an instance as a list needs it.
func short(s *kvregistry.Service) *instance {
	one := whole(s)
	for _, text := range []*string{&one.Version, &one.Network, &one.Address, &one.URL, &one.Host,
		&one.Zone} {
		*text = one.cut(*text)
	}
	one.Status = kvregistry.Status(one.cut(string(one.Status)))
	if len(one.Tags) > 0 {
		one.Cut = one.Cut || len(one.Tags) > mostTexts
		one.Tags = slices.Clone(one.Tags[:min(len(one.Tags), mostTexts)])
		for i := range one.Tags {
			one.Tags[i] = one.cut(one.Tags[i])
		}
	}
	one.Metadata, one.Endpoints = one.cutPairs(one.Metadata), one.cutPairs(one.Endpoints)
	return one
}

// cut returns the beginning of a text.
func (one *instance) cut(text string) string {
	begin := shown.Cut(text, longestText)
	one.Cut = one.Cut || begin != text
	return begin
}

// cutPairs returns the first pairs, in the order of their names.
func (one *instance) cutPairs(pairs map[string]string) map[string]string {
	if len(pairs) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(pairs))
	one.Cut = one.Cut || len(names) > mostTexts
	list := make(map[string]string, min(len(names), mostTexts))
	for _, name := range names[:min(len(names), mostTexts)] {
		list[one.cut(name)] = one.cut(pairs[name])
	}
	return list
}

// instance answers with one instance, and all of it.
func (h *handler) instance(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	all, err := h.reg.CatalogContext(r.Context())
	if err != nil {
		fail(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	one, ok := find(all.Snapshot(query.Get("service")), query.Get("id"))
	if !ok {
		fail(w, http.StatusNotFound, "there is no such instance")
		return
	}
	reply(w, whole(&one))
}

// find returns an instance of a snapshot.
func find(s *kvregistry.Snapshot, id string) (kvregistry.Service, bool) {
	i := sort.Search(s.Len(), func(i int) bool { return s.At(i).ID >= id })
	if i == s.Len() || s.At(i).ID != id {
		return kvregistry.Service{}, false
	}
	return s.At(i), true
}
