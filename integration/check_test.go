package integration

import (
	"errors"
	"fmt"
	"slices"

	"github.com/kvregistry/go/kvregistry"
)

func isErr(err, want error) bool { return errors.Is(err, want) }

func noneLeft(list []string) error {
	if len(list) > 0 {
		return fmt.Errorf("left: %v", list)
	}
	return nil
}

var errStill = errors.New("it still says what was written by hand")

func wantAddress(r *kvregistry.Registry, want string) error {
	one, err := r.GetService("web")
	if err == nil && one.Address != want {
		err = fmt.Errorf("address is %q, want %q", one.Address, want)
	}
	return err
}

type kvService = kvregistry.Service

func contains(list []string, want string) bool { return slices.Contains(list, want) }
