package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// moduleRoot returns the directory of the module that the working directory is in.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module github.com/kvregistry/go\n") {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("run mutations inside the module github.com/kvregistry/go")
		}
		dir = up
	}
}

// moduleCopy is a copy of the module in a directory of its own, which may be broken.
type moduleCopy struct {
	dir  string
	root string // of the module, in dir
	temp string // for what tests and the go command leave when they are killed, in dir
}

func newCopy(root string) (*moduleCopy, error) {
	dir, err := os.MkdirTemp("", "mutations-")
	if err != nil {
		return nil, err
	}
	c := &moduleCopy{dir, filepath.Join(dir, "module"), filepath.Join(dir, "temp")}
	err = os.Mkdir(c.temp, 0o777)
	if err == nil {
		err = copyTree(root, c.root)
	}
	if err != nil {
		c.remove()
		return nil, err
	}
	return c, nil
}

// copyTree copies the files below from, except those whose name, or whose directory's, begins with
// a dot.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		target := filepath.Join(to, rel)
		switch {
		case err != nil:
			return err
		case rel != "." && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return os.MkdirAll(target, 0o777)
		case !d.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, text, 0o666)
	})
}

func (c *moduleCopy) remove() { _ = os.RemoveAll(c.dir) }

// mutate breaks the copy. undo restores it.
func (c *moduleCopy) mutate(m mutation) (undo func() error, err error) {
	broken, err := m.apply(c.root)
	if err != nil {
		return nil, err
	}
	whole := map[string][]byte{}
	for name := range broken {
		if whole[name], err = os.ReadFile(filepath.Join(c.root, name)); err != nil {
			return nil, err
		}
	}
	return func() error { return c.write(whole) }, c.write(broken)
}

func (c *moduleCopy) write(files map[string][]byte) error {
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(c.root, name), text, 0o666); err != nil {
			return err
		}
	}
	return nil
}
