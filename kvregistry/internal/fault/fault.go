// Package fault tells the faults of the process that makes a call from those of the instance that
// it calls.
package fault

import (
	"errors"
	"syscall"
)

// Own reports whether a connection could not be made because this process, or its host, has no file
// descriptor, buffer or port left. It says nothing of the other end, and is the same for all
// others.
func Own(err error) bool {
	for _, own := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}
