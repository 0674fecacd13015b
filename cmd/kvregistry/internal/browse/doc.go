// Package browse has the commands that read the registry: what is there, what changes, and where
// to go.
package browse
