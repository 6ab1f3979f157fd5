package walarchive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"strings"
	"time"
)

// Errors of every Storage.
var (
	// ErrNotFound is returned for a key under which nothing is stored: an explicit answer, never a guess from a list.
	ErrNotFound = errors.New("not found in the storage")
	// ErrExists is returned by Put when something is stored under the key already.
	ErrExists = errors.New("exists in the storage already")
	// ErrChanged is returned by PutIf when the object is not the one that the caller read.
	ErrChanged = errors.New("was changed by somebody else")
)

// Storage keeps objects under keys like "main/wal/7/00000001/x.zst". Keys are relative, clean paths with slashes; no
// part begins with a dot. An object that can be seen is complete and durable. Safe for concurrent use.
type Storage interface {
	// Put stores the body unless something is stored under the key: ErrExists. When it returns nil, the object is
	// durable; also behind ErrExists the object that is there is. On any other error it is absent or complete.
	Put(ctx context.Context, key string, body io.Reader, opts PutOptions) error
	// PutIf replaces a small object (JSON) if it is still the one with this ETag, and gives the new ETag; ErrChanged.
	// With the ETag "" nothing may be there yet: ErrExists.
	PutIf(ctx context.Context, key string, body []byte, etag string) (string, error)
	// Get reads length bytes from offset; a negative length reads to the end. Less than asked for is an error of the
	// reader, except at the end of the object. ErrNotFound.
	Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)
	// Head tells about an object without reading it. ErrNotFound.
	Head(ctx context.Context, key string) (Object, error)
	// List gives the objects whose keys begin with prefix and come after the key after, in order of the keys. A list
	// may be stale: see Capabilities.
	List(ctx context.Context, prefix, after string) iter.Seq2[Object, error]
	// Delete removes objects; those that are not there are no error.
	Delete(ctx context.Context, keys ...string) error
	// Capabilities tells what this storage can do.
	Capabilities() Capabilities
	// String is the storage's URL without secrets.
	String() string
	// Close gives back what the storage holds.
	Close() error
}

// PutOptions are the details of a Put.
type PutOptions struct {
	// Size is the length of the body; 0 or less: not known.
	Size int64
	// Meta is kept with the object where the storage can (Capabilities.Meta).
	Meta map[string]string
}

// Object is what Head and List tell.
type Object struct {
	Key      string
	Size     int64
	Modified time.Time
	// ETag names this content of the key for PutIf. Head sets it for objects up to MaxSmall.
	ETag string
	// Meta is what Put was given; only from Head, and only with Capabilities.Meta.
	Meta map[string]string
}

// MaxSmall is the largest object that PutIf takes.
const MaxSmall = 1 << 20

// Capabilities tells what a storage can do.
type Capabilities struct {
	// AtomicPut: of two concurrent Puts of one key exactly one wins. Without it, Put looks before and after.
	AtomicPut bool
	// Meta: the meta data of Put come back from Head.
	Meta bool
	// FreshList: List shows every object that was stored before.
	FreshList bool
	// LocalDir is the directory in which the objects are files; "": they are not.
	LocalDir string
}

// CheckKey refuses what is no key: drivers call it.
func CheckKey(key string) error {
	if key == "" || path.Clean("/"+key) != "/"+key {
		return fmt.Errorf("storage key %q is not a clean relative path", key)
	}
	for part := range strings.SplitSeq(key, "/") {
		if strings.HasPrefix(part, ".") {
			return fmt.Errorf("storage key %q has a part that begins with a dot", key)
		}
	}
	return nil
}
