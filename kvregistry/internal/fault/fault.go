// Package fault tells a fault of the process that makes a call from a fault of the instance that is
// called.
package fault

import (
	"errors"
	"syscall"
)

// Own reports whether a connection could not be made because this process, or its host, has no file
// descriptor, buffer or port left. Such an error says nothing of the instance, and each other
// instance would give it too.
func Own(err error) bool {
	for _, own := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.EADDRNOTAVAIL} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}
