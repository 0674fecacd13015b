package natsserver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
)

var errLocked = errors.New("locked by another process")

// openStore makes the directory if it does not exist, checks that it can be written, and keeps
// other processes' servers off it until it is closed. Two servers would damage the store, and
// JetStream does not check.
func openStore(dir string) (io.Closer, error) {
	cannot := func(err error) error {
		return fmt.Errorf("the store %s can't be written: choose another with --store: %w",
			cli.Place(dir), cli.Cause(err))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, cannot(err)
	}
	probe, err := os.CreateTemp(dir, "probe-")
	if err != nil {
		return nil, cannot(err)
	}
	_ = probe.Close()
	_ = os.Remove(probe.Name())
	f, err := os.OpenFile(filepath.Join(dir, "kvregistry.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, cannot(err)
	}
	if err := lock(f); err != nil {
		_ = f.Close()
		if errors.Is(err, errLocked) {
			return nil, fmt.Errorf("the store %s is in use by another server: stop that one, or "+
				"choose another with --store", cli.Place(dir))
		}
		return nil, cannot(err)
	}
	return f, nil
}
