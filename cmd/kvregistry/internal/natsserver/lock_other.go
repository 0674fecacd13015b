//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package natsserver

import "os"

// lock does nothing on a system without flock.
func lock(*os.File) error { return nil }
