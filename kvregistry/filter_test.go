package kvregistry

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fleet are instances that differ in what the filters check.
func fleet() []*Service {
	return []*Service{
		{ID: "a", Name: "web", Version: "1", Zone: "east", Host: "h1", Tags: []string{"x", "y"},
			Metadata: map[string]string{"k": "v"}, Endpoints: map[string]string{"e": "a:1"},
			Status: Passing},
		{ID: "b", Name: "web", Version: "1.0", Zone: "east", Host: "h2", Tags: []string{"x"},
			Metadata: map[string]string{"k": ""}, Status: Warning},
		{ID: "c", Name: "web", Version: "2", Zone: "west", Host: "H1", Tags: []string{"xy"},
			Status: Critical},
		{ID: "d", Name: "web", Zone: "West", Host: hostname(), Status: Draining},
	}
}

func chosen(list []*Service) (ids []string) {
	for _, s := range list {
		ids = append(ids, s.ID)
	}
	return ids
}

func TestFilters(t *testing.T) {
	heavy := func(s Service) bool { return s.ID > "b" }
	for name, tc := range map[string]struct {
		filters []Filter
		want    []string
	}{
		"none":               {nil, []string{"a", "b", "c", "d"}},
		"the zero filter":    {[]Filter{{}}, []string{"a", "b", "c", "d"}},
		"a function":         {[]Filter{Where(heavy)}, []string{"c", "d"}},
		"version, by letter": {[]Filter{WithVersion("1")}, []string{"a"}},
		"without version":    {[]Filter{WithVersion("")}, []string{"d"}},
		"a tag":              {[]Filter{WithTag("x")}, []string{"a", "b"}},
		"all of the tags":    {[]Filter{WithTag("x", "y")}, []string{"a"}},
		"no tag asked for":   {[]Filter{WithTag()}, []string{"a", "b", "c", "d"}},
		"metadata":           {[]Filter{WithMetadata("k", "v")}, []string{"a"}},
		// not those without the key
		"metadata that is none": {[]Filter{WithMetadata("k", "")}, []string{"b"}},
		"endpoint":              {[]Filter{WithEndpoint("e")}, []string{"a"}},
		"zone":                  {[]Filter{InZone("west")}, []string{"c"}},
		"host":                  {[]Filter{OnHost("h1")}, []string{"a"}},
		"own host":              {[]Filter{OnOwnHost()}, []string{"d"}},
		"a status":              {[]Filter{WithStatus(Critical)}, []string{"c"}},
		"any of the statuses":   {[]Filter{WithStatus(Passing, Draining)}, []string{"a", "d"}},
		"no status":             {[]Filter{WithStatus()}, nil},
		"two that both hold":    {[]Filter{InZone("east"), WithTag("y")}, []string{"a"}},
		"two that never both":   {[]Filter{InZone("east"), WithVersion("2")}, nil},
		"two of the same kind":  {[]Filter{WithTag("x"), WithTag("y")}, []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []*Service
			for _, s := range fleet() {
				if matches(tc.filters, s) {
					got = append(got, s)
				}
			}
			if diff := cmp.Diff(tc.want, chosen(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if n := newSnapshot("web", listOf(fleet()), version{revision: 1}).matching(every,
				tc.filters); n != len(tc.want) {
				t.Errorf("count is %d, want %d", n, len(tc.want))
			}
		})
	}
}

// listOf returns a list of instances, in an order of its own.
func listOf(all []*Service) instances {
	n := noInstances
	for _, s := range all {
		n = n.With(1, s)
	}
	n.Seal(1)
	return n
}

// TestCallable checks what a look-up without a filter of statuses returns.
func TestCallable(t *testing.T) {
	of := func(statuses ...Status) (list []*Service) {
		for i, s := range statuses {
			list = append(list, &Service{ID: string(rune('a' + i)), Status: s})
		}
		return list
	}
	for name, tc := range map[string]struct {
		all  []*Service
		want []string
	}{
		"nothing":                 {nil, nil},
		"all pass":                {of(Passing, Passing), []string{"a", "b"}},
		"passing before warning":  {of(Warning, Passing, Critical, Passing), []string{"b", "d"}},
		"warning where none pass": {of(Critical, Warning, Draining, Warning), []string{"b", "d"}},
		"all warn":                {of(Warning, Warning), []string{"a", "b"}},
		"none can be called":      {of(Critical, Draining), nil},
	} {
		t.Run(name, func(t *testing.T) {
			snap := newSnapshot("web", listOf(tc.all), version{revision: 1})
			if diff := cmp.Diff(tc.want,
				chosen(slices.Collect(snap.list.Each(snap.callable)))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestChoices checks that a filter of statuses chooses from all instances. Any other filter chooses
// from those that can be called.
func TestChoices(t *testing.T) {
	snap := newSnapshot("web", listOf(fleet()), version{revision: 1})
	for name, tc := range map[string]struct {
		filters []Filter
		want    []string
	}{
		"none":     {nil, []string{"a"}},
		"another":  {[]Filter{InZone("west")}, []string{"a"}},
		"a status": {[]Filter{WithStatus(Critical)}, []string{"a", "b", "c", "d"}},
		"a status among them": {[]Filter{InZone("west"), WithStatus(Critical)},
			[]string{"a", "b", "c", "d"}},
	} {
		if diff := cmp.Diff(tc.want,
			chosen(slices.Collect(snap.list.Each(snap.choice(tc.filters))))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
