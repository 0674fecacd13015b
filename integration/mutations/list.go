package main

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

//go:embed mutations.txt
var listed string

// mutation is one small break of the library, and the test that catches it.
type mutation struct {
	name      string
	invariant int    // its number in docs/design.md
	pkg, run  string // the package of the test, and go test's -run
	edits     []edit
}

// edit replaces whole lines of a file, which occur there once.
type edit struct {
	file     string // from the module's root
	old, new []string
}

// parse reads the list. The head of the list describes the format.
func parse(text string) (ms []mutation, err error) {
	for n, line := range strings.Split(text, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		if name, ok := strings.CutPrefix(line, "mutation "); ok {
			ms = append(ms, mutation{name: name})
			continue
		}
		if len(ms) == 0 {
			return nil, fmt.Errorf("mutations.txt:%d: %q comes before the first mutation", n+1,
				line)
		}
		if err := ms[len(ms)-1].add(line); err != nil {
			return nil, fmt.Errorf("mutations.txt:%d: %w", n+1, err)
		}
	}
	for _, m := range ms {
		if err := m.check(); err != nil {
			return nil, fmt.Errorf("mutations.txt: mutation %s: %w", m.name, err)
		}
	}
	return ms, nil
}

// add reads one line of a mutation's entry.
func (m *mutation) add(line string) (err error) {
	if line[0] == '-' || line[0] == '+' {
		if len(m.edits) == 0 {
			return errors.New("a changed line before the file that it is in")
		}
		e := &m.edits[len(m.edits)-1]
		if line[0] == '-' {
			e.old = append(e.old, line[1:])
		} else {
			e.new = append(e.new, line[1:])
		}
		return nil
	}
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "invariant":
		m.invariant, err = strconv.Atoi(rest)
	case "test":
		m.pkg, m.run, _ = strings.Cut(rest, " ")
	case "file":
		m.edits = append(m.edits, edit{file: rest})
	default:
		err = fmt.Errorf("can't read %q", line)
	}
	return err
}

func (m mutation) check() error {
	if m.invariant == 0 || m.pkg == "" || m.run == "" || len(m.edits) == 0 {
		return errors.New("a mutation needs an invariant, a test and a file")
	}
	for _, e := range m.edits {
		if len(e.old) == 0 || slices.Equal(e.old, e.new) {
			return fmt.Errorf("the mutation changes nothing in %s", e.file)
		}
	}
	return nil
}

// apply returns the contents of the mutated files. It writes nothing. The error names a mutation
// that does not fit the source under root.
func (m mutation) apply(root string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, e := range m.edits {
		text, ok := files[e.file]
		if !ok {
			var err error
			if text, err = os.ReadFile(filepath.Join(root, e.file)); err != nil {
				return nil, fmt.Errorf("mutation %s: %w", m.name, err)
			}
		}
		lines := strings.Split(string(text), "\n")
		places := find(lines, e.old)
		if len(places) != 1 {
			return nil, fmt.Errorf("mutation %s: the old text occurs %d times in %s, must "+
				"once:\n%s",
				m.name, len(places), e.file, strings.Join(e.old, "\n"))
		}
		at := places[0]
		files[e.file] = []byte(strings.Join(slices.Replace(lines, at, at+len(e.old), e.new...),
			"\n"))
	}
	return files, nil
}

// find returns the index at which the wanted lines begin.
func find(lines, want []string) (places []int) {
	for i := 0; i+len(want) <= len(lines); i++ {
		if slices.Equal(lines[i:i+len(want)], want) {
			places = append(places, i)
		}
	}
	return places
}
