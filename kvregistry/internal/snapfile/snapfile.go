// Package snapfile reads and writes the file of what a process observed, for its next run.
//
// The package knows the file's format and how to replace the file as a whole. It does not know what
// an instance is, or when the file is to be written.
package snapfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Format is the number of the format that this package writes and reads.
const Format = 1

const largest = 1 << 30 // bytes that are read

// ErrTenant says that a file is another tenant's.
var ErrTenant = errors.New("the file is another tenant's")

// Content is what a file says. T is an instance as JSON.
type Content[T any] struct {
	Format   int                   `json:"format"`
	Tenant   string                `json:"tenant"`
	Services map[string]Service[T] `json:"services"`

	// Everything is when the server last confirmed that these are all services of the tenant. It is
	// zero if they may be some of them.
	Everything time.Time `json:"everything,omitzero"`
}

// Service is what is saved of one service.
type Service[T any] struct {
	At        time.Time     `json:"at"` // when the server last confirmed it
	Instances []Instance[T] `json:"instances"`
}

// Instance is what is saved of one instance.
type Instance[T any] struct {
	Revision uint64 `json:"revision"`
	Signer   string `json:"signer,omitempty"` // its signer; empty if its service had no signers
	Owner    string `json:"owner,omitempty"`
	Lease    string `json:"lease,omitempty"`
	Instance T      `json:"instance"`
}

// Fresh reports whether a service was confirmed at most a time ago by this machine's clock, and not
// in the future.
func Fresh(at time.Time, most time.Duration) bool {
	age := time.Since(at)
	return age >= 0 && age <= most
}

// Read reads what a run of a tenant's process left; nothing if there is no file. The error wraps
// [ErrTenant] if the file is another tenant's, so that it must not be written. After any other
// error the file can be replaced.
func Read[T any](path, tenant string) (content Content[T], err error) {
	r, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Content[T]{}, nil
	}
	if err != nil {
		return Content[T]{}, err
	}
	defer func() { _ = r.Close() }()
	if err := json.NewDecoder(io.LimitReader(r, largest)).Decode(&content); err != nil {
		return Content[T]{}, fmt.Errorf("it is damaged: %w", err)
	}
	switch {
	case content.Tenant != tenant && content.Tenant != "":
		return Content[T]{}, fmt.Errorf("%w: it is tenant %q's, not %q's", ErrTenant,
			content.Tenant, tenant)
	case content.Format != Format:
		return Content[T]{}, fmt.Errorf("it has format %d, and this version reads %d",
			content.Format, Format)
	}
	return content, nil
}

// Write replaces a file. Its name stands for the old content or the new at any time, whatever else
// writes it at the same time. Only its owner can read it. Write sets the content's format.
func Write[T any](path string, content Content[T]) error {
	content.Format = Format
	data, err := json.Marshal(content)
	if err != nil {
		return err
	}
	// process ids are the same in all containers
	w, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.new")
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	if err = errors.Join(err, w.Sync(), w.Close()); err == nil {
		err = os.Rename(w.Name(), path)
	}
	if err != nil {
		_ = os.Remove(w.Name())
	}
	return err
}
