package walarchive

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// ErrDamaged is returned for an object that is not what its header says: hash, length, or form.
var ErrDamaged = errors.New("the stored object is damaged")

// skippable is the magic number of the zstd frame that holds the header: every zstd tool passes over it.
const skippable = 0x184D2A50

// maxHeader bounds the header of an object.
const maxHeader = 64 << 10

// castagnoli is the polynomial of PostgreSQL's checksums.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header describes a WAL object. It stands in clear before the content, also of encrypted objects.
type Header struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`            // of the content
	SHA256 string `json:"sha256,omitempty"` // of the content; not in encrypted objects
	// Tag is HMAC-SHA-256 of the content with the repository's tag key, in place of SHA256 in encrypted objects.
	Tag      string    `json:"tag,omitempty"`
	CRC32C   string    `json:"crc32c,omitempty"`
	System   uint64    `json:"system_id,string"`
	Timeline uint32    `json:"timeline"`
	Start    LSN       `json:"start_lsn"`
	Major    int       `json:"pg_major,omitempty"`
	Writer   string    `json:"writer"`
	Time     time.Time `json:"time"`
	Prev     string    `json:"prev,omitempty"` // name of the segment before
	// Recipients are the age keys that open an encrypted object.
	Recipients []string `json:"recipients,omitempty"`
}

// Meta is the header as meta data of a storage that keeps some.
func (h Header) Meta() map[string]string {
	return map[string]string{
		"skyd-name": h.Name, "skyd-bytes": strconv.FormatInt(h.Bytes, 10), "skyd-sha256": h.SHA256, "skyd-tag": h.Tag,
		"skyd-system-id": strconv.FormatUint(h.System, 10), "skyd-start-lsn": h.Start.String(), "skyd-writer": h.Writer,
	}
}

// sameContent compares what two headers say about their contents.
func (h Header) sameContent(o Header) bool {
	return h.Bytes == o.Bytes && h.SHA256 == o.SHA256 && h.Tag == o.Tag && h.SHA256+h.Tag != ""
}

// Compression names how objects are written; all are read the same way.
type Compression string

// The compressions.
const (
	Zstd Compression = "zstd" // level fastest
	None Compression = "none" // zstd frames of raw blocks: no work, and the same tools read them
)

// codec holds encoders and decoders for reuse. The zero value is ready; safe for concurrent use.
type codec struct {
	encoders, decoders sync.Pool
}

// compress appends one zstd frame with the content to dst.
func (c *codec) compress(dst, content []byte, how Compression) ([]byte, error) {
	if how == None {
		return rawFrame(dst, content), nil
	}
	enc, _ := c.encoders.Get().(*zstd.Encoder)
	if enc == nil {
		var err error
		enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, err
		}
	}
	defer c.encoders.Put(enc)
	return enc.EncodeAll(content, dst), nil
}

// rawFrame appends a zstd frame of raw blocks.
func rawFrame(dst, content []byte) []byte {
	const block = 128 << 10
	dst = binary.LittleEndian.AppendUint32(dst, 0xFD2FB528)
	dst = append(dst, 0xC0, 0x38) // 8 bytes of content size; window of 128 KiB
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(content)))
	for {
		n := min(len(content), block)
		head := uint32(n) << 3
		if n == len(content) {
			head |= 1 // the last block
		}
		dst = append(dst, byte(head), byte(head>>8), byte(head>>16))
		dst = append(dst, content[:n]...)
		if content = content[n:]; len(content) == 0 {
			return dst
		}
	}
}

// decompress writes the content of zstd frames to w; skippable frames are passed over.
func (c *codec) decompress(w io.Writer, r io.Reader) error {
	dec, _ := c.decoders.Get().(*zstd.Decoder)
	var err error
	if dec == nil {
		dec, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2<<30),
			zstd.IgnoreChecksum(true)) // the hash of the whole is checked
	} else {
		err = dec.Reset(r)
	}
	if err != nil {
		return err
	}
	_, err = dec.WriteTo(w)
	if rerr := dec.Reset(nil); rerr == nil {
		c.decoders.Put(dec)
	}
	return err
}

// frame is the skippable frame with the header.
func (h Header) frame() ([]byte, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	out := binary.LittleEndian.AppendUint32(make([]byte, 0, len(text)+8), skippable)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(text)))
	return append(out, text...), nil
}

// readHeader reads the skippable frame at the begin of an object.
func readHeader(r io.Reader) (Header, error) {
	var h Header
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return h, shortRead("read the header", err)
	}
	n := binary.LittleEndian.Uint32(head[4:])
	if binary.LittleEndian.Uint32(head[:]) != skippable || n > maxHeader {
		return h, fmt.Errorf("%w: it does not begin with a header", ErrDamaged)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return h, shortRead("read the header", err)
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return h, fmt.Errorf("%w: its header cannot be read: %w", ErrDamaged, err)
	}
	return h, nil
}

// shortRead tells an object that is too short from a storage that fails.
func shortRead(what string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %s: it is too short", ErrDamaged, what)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// seal makes the object of a content. It completes the header.
func (r *Repo) seal(h Header, content []byte) (Header, []byte, error) {
	h = r.stamp(h, content)
	object, err := r.pack(make([]byte, 0, len(content)/2), h, content)
	return h, object, err
}

// pack makes the object of a stamped header and its content, in the memory of dst when it fits: header frame, then zstd,
// encrypted or not.
func (r *Repo) pack(dst []byte, h Header, content []byte) ([]byte, error) {
	frame, err := h.frame()
	if err != nil {
		return nil, err
	}
	if r.keys == nil {
		return r.codec.compress(append(dst[:0], frame...), content, r.compression)
	}
	packed, err := r.codec.compress(nil, content, r.compression)
	if err != nil {
		return nil, err
	}
	out := bytes.NewBuffer(frame)
	err = r.keys.encrypt(out, packed)
	return out.Bytes(), err
}

// contentName is a part of a name that tells contents apart.
func contentName(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:8])
}

// stamp fills what the content says into a header.
func (r *Repo) stamp(h Header, content []byte) Header {
	h.Bytes = int64(len(content))
	h.CRC32C = fmt.Sprintf("%08x", crc32.Checksum(content, castagnoli))
	if r.keys != nil {
		mac := hmac.New(sha256.New, r.keys.tagKey)
		mac.Write(content) // never fails
		h.Tag, h.SHA256, h.Recipients = hex.EncodeToString(mac.Sum(nil)), "", r.keys.names
		return h
	}
	sum := sha256.Sum256(content)
	h.SHA256, h.Tag = hex.EncodeToString(sum[:]), ""
	return h
}

// unseal reads an object to w and proves that it is what its header says. It reads all of body. ErrDamaged when the
// object is at fault; then w has got bytes that are worth nothing.
func (r *Repo) unseal(w io.Writer, body io.Reader) (Header, error) {
	src := &tracked{r: body}
	h, err := readHeader(src)
	if err != nil {
		return h, err
	}
	var clear io.Reader = src
	if r.keys != nil {
		if clear, err = r.keys.decrypt(src, h.Recipients); err != nil {
			return h, src.blame(err)
		}
	}
	mac, crc, n := sha256.New(), crc32.New(castagnoli), counter(0)
	tagless := r.keys != nil && r.keys.tagKey == nil // age proves the content; the CRC tells an object that is another one
	sinks := []io.Writer{w, &n, mac}
	switch {
	case tagless:
		sinks[2] = crc
	case r.keys != nil:
		mac = hmac.New(sha256.New, r.keys.tagKey)
		sinks[2] = mac
	}
	if h.SHA256 == "" && h.Tag == "" {
		return h, fmt.Errorf("%w: its header has no hash", ErrDamaged)
	}
	if err := r.codec.decompress(io.MultiWriter(sinks...), clear); err != nil {
		return h, src.blame(err)
	}
	want := h.SHA256
	if r.keys != nil {
		want = h.Tag
	}
	switch got := hex.EncodeToString(mac.Sum(nil)); {
	case int64(n) != h.Bytes:
		return h, fmt.Errorf("%w: %s has %d bytes, its header says %d", ErrDamaged, h.Name, int64(n), h.Bytes)
	case tagless:
		if sum := fmt.Sprintf("%08x", crc.Sum32()); sum != h.CRC32C {
			return h, fmt.Errorf("%w: the CRC of %s is %s, its header says %s", ErrDamaged, h.Name, sum, h.CRC32C)
		}
	case got != want:
		return h, fmt.Errorf("%w: the hash of %s is %.16s…, its header says %.16s…", ErrDamaged, h.Name, got, want)
	}
	return h, nil
}

// counter counts what is written to it.
type counter int64

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// tracked remembers the error of a storage, so that it is not taken for a damaged object.
type tracked struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (t *tracked) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.err = err
	}
	return n, err
}

// blame tells whose fault the error of a decoder is. An error of the receiving side keeps its own name: see localError.
func (t *tracked) blame(err error) error {
	var local *localError
	if t.err != nil || errors.Is(err, ErrNoKey) || errors.As(err, &local) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// localError is a failure of the place that content is written to, not of the object it comes from.
type localError struct{ err error }

// Error implements error.
func (e *localError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *localError) Unwrap() error { return e.err }
