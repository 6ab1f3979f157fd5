package walarchive

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Version of the form of a repository.
const repoVersion = 1

var (
	// ErrNoRepository is returned when a storage holds no repository.
	ErrNoRepository = errors.New("no repository there")
	// ErrForeign is returned when a storage that is to become a repository holds something else.
	ErrForeign = errors.New("it holds something that is not a skyd repository")
)

// RepoInfo is skyd-repo.json.
type RepoInfo struct {
	Version    int       `json:"version"`
	ID         string    `json:"id"`
	Created    time.Time `json:"created"`
	Hash       string    `json:"hash"`
	Encrypted  bool      `json:"encrypted"`
	TagKeyID   string    `json:"tag_key_id,omitempty"`
	Recipients []string  `json:"recipients,omitempty"`
}

// RepoOptions are how a repository is used.
type RepoOptions struct {
	Compression Compression
	Encryption  Encryption
	// Hooks are run by what works on the repository.
	Hooks HooksConfig
}

// Repo is one source's part of a repository. Safe for concurrent use.
type Repo struct {
	Storage
	Layout
	// Info is what skyd-repo.json says.
	Info        RepoInfo
	compression Compression
	keys        *keys
	hooks       HooksConfig
	codec       codec
	buffers     sync.Pool // *[]byte of the size of a segment
}

// OpenRepo opens the repository in a storage for one source. ErrNoRepository when there is none.
func OpenRepo(ctx context.Context, s Storage, source string, o RepoOptions) (*Repo, error) {
	k, err := loadKeys(o.Encryption)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	r := &Repo{Storage: s, Layout: Layout{Source: source, Encrypted: k != nil}, compression: o.Compression, keys: k, hooks: o.Hooks}
	if r.compression == "" {
		r.compression = Zstd
	}
	if _, err := r.getJSON(ctx, RepoKey, &r.Info); err != nil {
		if errors.Is(err, ErrNotFound) {
			return nil, fmt.Errorf("%w: %s (make it with: skyd wal setup)", ErrNoRepository, s)
		}
		return nil, err
	}
	switch {
	case r.Info.Version != repoVersion:
		return nil, fmt.Errorf("%w: the repository %s has version %d, this skyd knows version %d", errUsage, s, r.Info.Version, repoVersion)
	case r.Info.Encrypted != (k != nil):
		return nil, fmt.Errorf("%w: the repository %s is encrypted: %t, but encryption is configured: %t", errUsage, s, r.Info.Encrypted, k != nil)
	case r.Info.TagKeyID != k.tagKeyID() && (k == nil || k.tagKey != nil):
		return nil, fmt.Errorf("%w: the repository %s was made with another encryption.tag_key_file", errUsage, s)
	}
	return r, nil
}

// InitRepo makes a repository in a storage, or finds the one that is there; made tells which. It proves that the storage
// keeps its promises: nothing is overwritten, and a list shows what was stored. ErrForeign.
func InitRepo(ctx context.Context, s Storage, o RepoOptions) (made bool, err error) {
	k, err := loadKeys(o.Encryption)
	if err != nil {
		return false, err
	}
	_, err = s.Head(ctx, RepoKey)
	if err == nil {
		return false, nil
	}
	if !errors.Is(err, ErrNotFound) && s.Capabilities().LocalDir == "" {
		return false, err
	}
	for o, err := range s.List(ctx, "", "") {
		if err != nil && s.Capabilities().LocalDir != "" {
			break // a directory that is not there yet
		}
		if err != nil {
			return false, err
		}
		return false, fmt.Errorf("storage %s: %w: %s", s, ErrForeign, o.Key)
	}
	if err := probe(ctx, s); err != nil {
		return false, fmt.Errorf("storage %s: %w", s, err)
	}
	info := RepoInfo{Version: repoVersion, ID: rand.Text(), Created: time.Now().UTC(), Hash: "sha256", Encrypted: k != nil,
		TagKeyID: k.tagKeyID(), Recipients: o.Encryption.Recipients}
	body, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return false, err
	}
	if _, err := s.PutIf(ctx, RepoKey, append(body, '\n'), ""); err != nil && !errors.Is(err, ErrExists) {
		return false, err
	}
	return true, nil
}

// probe tries the promises of a storage with an object of its own.
func probe(ctx context.Context, s Storage) (err error) {
	key := "skyd-probe/" + rand.Text()
	put := func(text string) error {
		return s.Put(ctx, key, strings.NewReader(text), PutOptions{Size: int64(len(text))})
	}
	if err := put("first"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Delete(ctx, key)) }()
	if err := put("other"); !errors.Is(err, ErrExists) {
		return fmt.Errorf("it lets an object be overwritten: %w", err)
	}
	for o, err := range s.List(ctx, "skyd-probe/", "") {
		if err != nil {
			return err
		}
		if o.Key == key {
			return nil
		}
	}
	return errors.New("it does not list what was stored a moment ago")
}

// present makes sure that the repository is there: behind a mount that is gone there may be an empty directory, and
// nothing is known about what the archive holds.
func (r *Repo) present(ctx context.Context) error {
	if _, err := r.Head(ctx, RepoKey); err != nil {
		if errors.Is(err, ErrNotFound) {
			return fmt.Errorf("%s is not there any more: %w", r.Storage, ErrNoRepository)
		}
		return err
	}
	return nil
}

// getJSON reads a small object and gives its ETag. ErrNotFound.
func (r *Repo) getJSON(ctx context.Context, key string, into any) (etag string, err error) {
	o, err := r.Head(ctx, key)
	if err != nil {
		return "", err
	}
	body, err := r.ReadSmall(ctx, key)
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return "", fmt.Errorf("read %s: %w: %w", key, ErrDamaged, err)
	}
	return o.ETag, nil
}

// putJSON stores a small object, or replaces the one with this ETag.
func (r *Repo) putJSON(ctx context.Context, key string, value any, etag string) error {
	body, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	_, err = r.PutIf(ctx, key, append(body, '\n'), etag)
	return err
}

// ReadSmall reads an object of at most MaxSmall bytes.
func (r *Repo) ReadSmall(ctx context.Context, key string) ([]byte, error) {
	body, err := r.Get(ctx, key, 0, MaxSmall+1)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(body)
	if err = errors.Join(err, body.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	if len(text) > MaxSmall {
		return nil, fmt.Errorf("read %s: %w: it has more than %d bytes", key, ErrDamaged, MaxSmall)
	}
	return text, nil
}

// Seal makes a WAL object: header, compression, encryption.
func (r *Repo) Seal(h Header, content []byte) (Header, []byte, error) { return r.seal(h, content) }

// Unseal reads the WAL object under a key to w, and proves it. ErrNotFound, ErrDamaged, ErrNoKey.
func (r *Repo) Unseal(ctx context.Context, key string, w io.Writer) (Header, error) {
	body, err := r.Get(ctx, key, 0, -1)
	if err != nil {
		return Header{}, err
	}
	h, err := r.unseal(w, body)
	if cerr := body.Close(); err == nil && cerr != nil {
		err = cerr
	}
	if err != nil {
		return h, fmt.Errorf("read %s: %w", key, err)
	}
	return h, nil
}

// HeaderOf reads the header of a WAL object. ErrNotFound, ErrDamaged.
func (r *Repo) HeaderOf(ctx context.Context, key string) (Header, error) {
	body, err := r.Get(ctx, key, 0, maxHeader+8)
	if err != nil {
		return Header{}, err
	}
	h, err := readHeader(body)
	if err = errors.Join(err, body.Close()); err != nil {
		return h, fmt.Errorf("read %s: %w", key, err)
	}
	return h, nil
}

// putObject stores a sealed object; ErrConflict when other content is there, nil when the same is.
func (r *Repo) putObject(ctx context.Context, key string, h Header, object []byte) (stored bool, err error) {
	err = r.Put(ctx, key, bytes.NewReader(object), PutOptions{Size: int64(len(object)), Meta: h.Meta()})
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, ErrExists) {
		return false, err
	}
	return false, r.compare(ctx, key, h)
}

// settler is a storage in which an object may be seen before it is durable.
type settler interface {
	// Settle makes an object durable that whoever stored it may have left behind when he died.
	Settle(ctx context.Context, key string) error
}

// settle makes sure that an object that was seen is durable.
func (r *Repo) settle(ctx context.Context, key string) error {
	if s, ok := r.Storage.(settler); ok {
		return s.Settle(ctx, key)
	}
	return nil
}

// compare returns nil when the object under the key holds the content of this header, else ErrConflict.
func (r *Repo) compare(ctx context.Context, key string, h Header) error {
	there, err := r.HeaderOf(ctx, key)
	switch {
	case errors.Is(err, ErrDamaged):
		return fmt.Errorf("%w: %w", ErrConflict, err)
	case err != nil:
		return err
	case !there.sameContent(h):
		return fmt.Errorf("%s: %w (stored %s by %s)", key, ErrConflict, there.Time.Format(time.RFC3339), there.Writer)
	}
	return nil
}

// With is the same repository reached through another storage.
func (r *Repo) With(s Storage) *Repo {
	return &Repo{Storage: s, Layout: r.Layout, Info: r.Info, compression: r.compression, keys: r.keys, hooks: r.hooks}
}
