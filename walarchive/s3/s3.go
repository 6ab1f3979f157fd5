package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/skytools/skyd/walarchive"
)

// partSize is the size of the parts of large objects.
const partSize = 64 << 20

// attempts is how often a request is made before its failure counts.
const attempts = 3

// Storage is a prefix of a bucket.
type Storage struct {
	client *minio.Client
	putter *minio.Client // without attempts of its own, see put
	bucket string
	prefix string // "" or ends with a slash
	url    string
}

var _ walarchive.Storage = (*Storage)(nil)

// Open opens the storage of a URL like s3://bucket/prefix?endpoint=minio.example.com:9000&region=eu-1. insecure=true speaks
// HTTP without TLS, path=true puts the bucket into the path.
func Open(_ context.Context, u *url.URL) (walarchive.Storage, error) {
	chain := credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{}})
	return open(u, chain)
}

func open(u *url.URL, keys *credentials.Credentials) (*Storage, error) {
	q := u.Query()
	switch {
	case u.Scheme != "s3" || u.Host == "":
		return nil, fmt.Errorf("storage %s: must look like s3://bucket/prefix?endpoint=...&region=...", u.Redacted())
	case u.User != nil:
		return nil, fmt.Errorf("storage %s: keys do not belong in the URL: use the environment or ~/.aws/credentials", u.Redacted())
	}
	for name := range q {
		switch name {
		case "endpoint", "region", "insecure", "path":
		default:
			return nil, fmt.Errorf("storage %s: no parameter %q; there are endpoint, region, insecure and path", u.Redacted(), name)
		}
	}
	endpoint := q.Get("endpoint")
	if endpoint == "" {
		endpoint = "s3.amazonaws.com"
	}
	o := &minio.Options{Creds: keys, Secure: q.Get("insecure") != "true", Region: q.Get("region"), MaxRetries: attempts}
	if q.Get("path") == "true" {
		o.BucketLookup = minio.BucketLookupPath
	}
	client, err := minio.New(endpoint, o)
	if err != nil {
		return nil, fmt.Errorf("storage %s: %w", u.Redacted(), err)
	}
	o.MaxRetries = 1
	putter, err := minio.New(endpoint, o)
	if err != nil {
		return nil, fmt.Errorf("storage %s: %w", u.Redacted(), err)
	}
	s := &Storage{client: client, putter: putter, bucket: u.Host, prefix: strings.Trim(u.Path, "/"), url: u.Redacted()}
	if s.prefix != "" {
		s.prefix += "/"
	}
	return s, nil
}

// String implements walarchive.Storage.
func (s *Storage) String() string { return s.url }

// Close implements walarchive.Storage.
func (s *Storage) Close() error { return nil }

// Capabilities implements walarchive.Storage.
func (s *Storage) Capabilities() walarchive.Capabilities {
	return walarchive.Capabilities{AtomicPut: true, Meta: true, FreshList: true}
}

// Put implements walarchive.Storage.
func (s *Storage) Put(ctx context.Context, key string, body io.Reader, o walarchive.PutOptions) error {
	if err := walarchive.CheckKey(key); err != nil {
		return err
	}
	size := o.Size
	if size <= 0 { // not known: small objects are read to know it
		head, err := io.ReadAll(io.LimitReader(body, walarchive.MaxSmall))
		if err != nil {
			return fmt.Errorf("store %s: %w", key, err)
		}
		size = int64(len(head))
		if size == walarchive.MaxSmall {
			size = -1
		}
		body = io.MultiReader(bytes.NewReader(head), body)
	}
	put := options()
	put.UserMetadata = o.Meta
	put.SetMatchETagExcept("*")
	whole := &counted{ctx: ctx, r: body, left: size, known: size >= 0}
	var err error
	if size < 0 || size > partSize {
		_, err = s.putter.PutObject(ctx, s.bucket, s.prefix+key, whole, size, put)
	} else {
		_, err = s.put(ctx, key, whole, size, put)
	}
	if status(err) == http.StatusPreconditionFailed {
		err = walarchive.ErrExists
	}
	if err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	return nil
}

// put stores an object of one part, and tries again what may have failed for the moment. Each attempt reads a body of its
// own: those of the library share one, which the broken connection of the attempt before may still be reading.
func (s *Storage) put(ctx context.Context, key string, body io.Reader, size int64, o minio.PutObjectOptions) (minio.UploadInfo, error) {
	content := make([]byte, size)
	if _, err := io.ReadFull(body, content); err != nil {
		return minio.UploadInfo{}, err
	}
	for attempt := 1; ; attempt++ {
		info, err := s.putter.PutObject(ctx, s.bucket, s.prefix+key, bytes.NewReader(content), size, o)
		if code := status(err); err == nil || attempt == attempts || code != 0 && code != http.StatusTooManyRequests && code < 500 {
			return info, err
		}
		select {
		case <-ctx.Done():
			return info, err
		case <-time.After(rand.N(time.Duration(attempt) * 200 * time.Millisecond)):
		}
	}
}

// options are those of every store: the content is checked by its MD5.
func options() minio.PutObjectOptions {
	return minio.PutObjectOptions{SendContentMd5: true, DisableContentSha256: true, PartSize: partSize}
}

// counted makes a body that ends early an error, and lets a cancelled context end it.
type counted struct {
	ctx   context.Context
	r     io.Reader
	left  int64
	known bool
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.left -= int64(n)
	if errors.Is(err, io.EOF) && c.known && c.left > 0 {
		err = fmt.Errorf("the body is %d bytes too short: %w", c.left, io.ErrUnexpectedEOF)
	}
	return n, err
}

// PutIf implements walarchive.Storage.
func (s *Storage) PutIf(ctx context.Context, key string, body []byte, etag string) (string, error) {
	if err := walarchive.CheckKey(key); err != nil {
		return "", err
	}
	put, refused := options(), walarchive.ErrExists
	if etag == "" {
		put.SetMatchETagExcept("*")
	} else {
		refused = walarchive.ErrChanged
		// Stores that do not know If-Match ignore it: look, too.
		now, err := s.Head(ctx, key)
		if err != nil && !errors.Is(err, walarchive.ErrNotFound) {
			return "", err
		}
		if now.ETag != etag {
			return "", fmt.Errorf("replace %s: %w", key, refused)
		}
		put.SetMatchETag(etag)
	}
	info, err := s.put(ctx, key, bytes.NewReader(body), int64(len(body)), put)
	if code := status(err); code == http.StatusPreconditionFailed || code == http.StatusConflict || etag != "" && code == http.StatusNotFound {
		err = refused
	}
	if err != nil {
		return "", fmt.Errorf("replace %s: %w", key, err)
	}
	return strings.Trim(info.ETag, `"`), nil
}

// Get implements walarchive.Storage.
func (s *Storage) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := walarchive.CheckKey(key); err != nil {
		return nil, err
	}
	if length == 0 {
		_, err := s.Head(ctx, key)
		return io.NopCloser(strings.NewReader("")), err
	}
	get, err := ranged(offset, length)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	core := minio.Core{Client: s.client}
	body, info, _, err := core.GetObject(ctx, s.bucket, s.prefix+key, get)
	if status(err) == http.StatusRequestedRangeNotSatisfiable {
		return io.NopCloser(strings.NewReader("")), nil // behind the end, as of an empty object
	}
	if err != nil {
		return nil, readError(key, err)
	}
	return &whole{ReadCloser: body, left: info.Size}, nil
}

func ranged(offset, length int64) (minio.GetObjectOptions, error) {
	var get minio.GetObjectOptions
	switch {
	case length > 0:
		return get, get.SetRange(offset, offset+length-1)
	case offset > 0:
		return get, get.SetRange(offset, 0)
	}
	return get, nil
}

// whole makes a body that is cut an error.
type whole struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (w *whole) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	w.left -= int64(n)
	if errors.Is(err, io.EOF) && w.left > 0 {
		err = fmt.Errorf("the connection ended %d bytes early", w.left)
	}
	return n, err
}

// Head implements walarchive.Storage.
func (s *Storage) Head(ctx context.Context, key string) (walarchive.Object, error) {
	if err := walarchive.CheckKey(key); err != nil {
		return walarchive.Object{}, err
	}
	info, err := s.client.StatObject(ctx, s.bucket, s.prefix+key, minio.StatObjectOptions{})
	if err != nil {
		return walarchive.Object{}, readError(key, err)
	}
	o := walarchive.Object{
		Key: key, Size: info.Size, Modified: info.LastModified.UTC(), ETag: strings.Trim(info.ETag, `"`),
		Meta: map[string]string{},
	}
	for name, value := range info.UserMetadata {
		o.Meta[strings.ToLower(name)] = value
	}
	return o, nil
}

// List implements walarchive.Storage.
func (s *Storage) List(ctx context.Context, prefix, after string) iter.Seq2[walarchive.Object, error] {
	return func(yield func(walarchive.Object, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		o := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true}
		if after != "" {
			o.StartAfter = s.prefix + after
		}
		for info := range s.client.ListObjectsIter(ctx, s.bucket, o) {
			if info.Err != nil {
				yield(walarchive.Object{}, fmt.Errorf("list %s: %w", prefix, info.Err))
				return
			}
			key := strings.TrimPrefix(info.Key, s.prefix)
			if key <= after || strings.HasSuffix(key, "/") {
				continue
			}
			if !yield(walarchive.Object{Key: key, Size: info.Size, Modified: info.LastModified.UTC()}, nil) {
				return
			}
		}
	}
}

// Delete implements walarchive.Storage.
func (s *Storage) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := walarchive.CheckKey(key); err != nil {
			return err
		}
		err := s.client.RemoveObject(ctx, s.bucket, s.prefix+key, minio.RemoveObjectOptions{})
		if err != nil && minio.ToErrorResponse(err).Code != minio.NoSuchKey {
			return fmt.Errorf("delete %s: %w", key, err)
		}
	}
	return nil
}

// status is the HTTP status of an error of the store; 0: it is none.
func status(err error) int {
	if err == nil {
		return 0
	}
	return minio.ToErrorResponse(err).StatusCode
}

func readError(key string, err error) error {
	if r := minio.ToErrorResponse(err); r.Code == minio.NoSuchKey {
		err = walarchive.ErrNotFound
	}
	return fmt.Errorf("read %s: %w", key, err)
}
