package walarchive

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// packLimit is the size at which a pack is closed and the next one begins.
const packLimit = 128 << 20

// Pack is one object of compressed blocks of files.
type Pack struct {
	Key    string `json:"key"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// block is where one block of a file is: a zstd frame in a pack. Sum is the first half of the sha256 of its content.
type block struct {
	Pack   uint32
	Offset int64
	Length uint32
	Sum    [16]byte
}

// blockSum identifies the content of a block; in an encrypted repository it tells nothing without the tag key.
func (r *Repo) blockSum(data []byte) [16]byte {
	if r.keys != nil {
		mac := hmac.New(sha256.New, r.keys.tagKey)
		mac.Write(data) // never fails
		return [16]byte(mac.Sum(nil)[:16])
	}
	full := sha256.Sum256(data)
	return [16]byte(full[:16])
}

// lock encrypts a frame where the repository is encrypted.
func (r *Repo) lock(frame []byte) ([]byte, error) {
	if r.keys == nil {
		return frame, nil
	}
	var out bytes.Buffer
	err := r.keys.encrypt(&out, frame)
	return out.Bytes(), err
}

// unlock undoes lock.
func (r *Repo) unlock(frame []byte, recipients []string) ([]byte, error) {
	if r.keys == nil {
		return frame, nil
	}
	clear, err := r.keys.decrypt(bytes.NewReader(frame), recipients)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(clear)
}

// packSet numbers the packs of one backup and takes the finished ones.
type packSet struct {
	repo   *Repo
	prefix string // of the keys, ends with a slash

	mu    sync.Mutex
	first uint32 // number of the first new pack
	count uint32
	packs map[uint32]Pack
}

// open begins a new pack; it is stored while it is written.
func (s *packSet) open(ctx context.Context) *packWriter {
	s.mu.Lock()
	number := s.first + s.count
	s.count++
	key := fmt.Sprintf("%s%06d.pack", s.prefix, s.count)
	s.mu.Unlock()
	r, w := io.Pipe()
	p := &packWriter{set: s, number: number, key: key, pipe: w, sum: sha256.New(), stored: make(chan error, 1)}
	go func() {
		err := s.repo.Put(ctx, key, r, PutOptions{})
		r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
		p.stored <- err
	}()
	return p
}

// packWriter is one pack that is being written. It belongs to one goroutine.
type packWriter struct {
	set    *packSet
	number uint32
	key    string
	pipe   *io.PipeWriter
	sum    hash.Hash
	size   int64
	stored chan error
}

// add appends one frame.
func (p *packWriter) add(frame []byte) (offset int64, err error) {
	offset = p.size
	p.sum.Write(frame)
	n, err := p.pipe.Write(frame)
	p.size += int64(n)
	if err != nil {
		return 0, fmt.Errorf("store %s: %w", p.key, err)
	}
	return offset, nil
}

// close finishes the pack: when it returns nil the pack is durable.
func (p *packWriter) close() error {
	err := p.pipe.Close()
	if err = errors.Join(err, <-p.stored); err != nil {
		return fmt.Errorf("store %s: %w", p.key, err)
	}
	p.set.mu.Lock()
	defer p.set.mu.Unlock()
	p.set.packs[p.number] = Pack{Key: p.key, Size: p.size, SHA256: hex.EncodeToString(p.sum.Sum(nil))}
	return nil
}

// abort gives the pack up: nothing of it becomes visible.
func (p *packWriter) abort(cause error) {
	p.pipe.CloseWithError(errors.Join(cause, errors.New("backup given up")))
	<-p.stored
}

// newBlockEncoder makes the encoder of one worker.
func newBlockEncoder() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(maxBlock), zstd.WithEncoderCRC(false))
}
