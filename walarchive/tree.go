package walarchive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
)

// ListTree is List for storages that are a tree of directories: it gives the files in order of their keys. read gives the
// entries of a directory, "" or like "a/b/"; fs.ErrNotExist: there is none. Names that begin with a dot are no objects.
func ListTree(ctx context.Context, prefix, after string, read func(dir string) ([]fs.DirEntry, error)) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		w := walker{ctx: ctx, read: read, prefix: prefix, after: after, yield: yield}
		dir := ""
		if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
			dir = prefix[:i+1]
		}
		w.walk(dir)
	}
}

// walker lists a tree in order of the keys.
type walker struct {
	ctx           context.Context
	read          func(dir string) ([]fs.DirEntry, error)
	prefix, after string
	yield         func(Object, error) bool
}

// walk lists the directory dir ("" or "a/b/"); false: enough.
func (w *walker) walk(dir string) bool {
	if err := context.Cause(w.ctx); err != nil {
		w.yield(Object{}, err)
		return false
	}
	entries, err := w.read(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		w.yield(Object{}, fmt.Errorf("list %s: %w", dir, err))
		return false
	}
	byKey := make(map[string]fs.DirEntry, len(entries))
	keys := make([]string, 0, len(entries))
	for _, e := range entries {
		key := dir + e.Name()
		switch {
		case strings.HasPrefix(e.Name(), "."):
			continue
		case e.IsDir():
			key += "/"
		case !e.Type().IsRegular():
			continue
		}
		byKey[key] = e
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		if !w.visit(key, byKey[key]) {
			return false
		}
	}
	return true
}

// visit lists one object, or a directory whose key ends with a slash, if it can matter.
func (w *walker) visit(key string, e fs.DirEntry) bool {
	if strings.HasSuffix(key, "/") {
		inPrefix := strings.HasPrefix(key, w.prefix) || strings.HasPrefix(w.prefix, key)
		if !inPrefix || key < w.after && !strings.HasPrefix(w.after, key) {
			return true
		}
		return w.walk(key)
	}
	if !strings.HasPrefix(key, w.prefix) || key <= w.after {
		return true
	}
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		w.yield(Object{}, fmt.Errorf("list %s: %w", key, err))
		return false
	}
	return w.yield(Object{Key: key, Size: info.Size(), Modified: info.ModTime().UTC()}, nil)
}
