package bench

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/kvregistry/go/kvregistry"
)

// first is made once, because what a benchmark does beside its subject must not cost anything.
var first = services()[0]

func services() (list []kvregistry.Service) {
	for i := range instances {
		list = append(list, kvregistry.Service{
			ID: fmt.Sprint(i), Name: "web", Version: "1.0.0", Address: fmt.Sprintf("10.%d.%d.%d:80",
				i>>16&255, i>>8&255, i&255), Zone: "a", Host: "h",
			Tags: []string{"x"}, Metadata: map[string]string{"k": "v"}, Status: kvregistry.Passing,
		})
	}
	return list
}

// numbered returns a service whose record has the same length whatever its number.
func numbered(i int) kvregistry.Service {
	s := first
	s.ID = id(i)
	return s
}

func id(i int) string { return fmt.Sprintf("id%08d", i) }

// record returns what a registry writes for an instance.
type record struct {
	Format   int                `json:"format"`
	Lease    string             `json:"lease"`
	Owner    string             `json:"owner"`
	Instance kvregistry.Service `json:"instance"`
}

// value returns the record of a numbered service, in as many bytes as the registry's own.
func value(i int) []byte { return slices.Concat(before, []byte(id(i)), after) }

var before, after = func() ([]byte, []byte) {
	data, err := json.Marshal(record{Format: 1, Lease: strings.Repeat("A", 26),
		Owner: strings.Repeat("B", 26), Instance: numbered(0)})
	if err != nil {
		panic(err)
	}
	b, a, _ := strings.Cut(string(data), id(0))
	return []byte(b), []byte(a)
}()
