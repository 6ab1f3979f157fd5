package walarchive

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Sizes of blocks: what changes is cut finely, what has been quiet for a week coarsely.
const (
	smallBlock = 64 << 10
	maxBlock   = 1 << 20
)

// Kinds of entries of a backup's list of files.
const (
	entryFile = "file"
	entryDir  = "dir"
)

// fileEntry is one line of a backup's files.json: a file or directory below the data directory. What is in a tablespace
// has the path pg_tblspc/OID/….
type fileEntry struct {
	Path      string  `json:"path"`
	Type      string  `json:"type"`
	Size      int64   `json:"size"`
	Mode      uint32  `json:"mode"`
	MTime     int64   `json:"mtime"`
	SHA256    string  `json:"sha256,omitempty"`
	BlockSize int     `json:"block_size,omitempty"`
	Blocks    []block `json:"blocks,omitempty"`
}

// length is the size of block i before compression.
func (e *fileEntry) length(i int) int {
	return int(min(int64(e.BlockSize), e.Size-int64(i)*int64(e.BlockSize)))
}

// MarshalText writes a block as pack:offset:length:sum.
func (b block) MarshalText() ([]byte, error) {
	text := make([]byte, 0, 64)
	text = append(strconv.AppendUint(text, uint64(b.Pack), 10), ':')
	text = append(strconv.AppendInt(text, b.Offset, 10), ':')
	text = append(strconv.AppendUint(text, uint64(b.Length), 10), ':')
	return hex.AppendEncode(text, b.Sum[:]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *block) UnmarshalText(text []byte) error {
	parts := strings.Split(string(text), ":")
	if len(parts) != 4 || len(parts[3]) != 32 {
		return fmt.Errorf("block %q is not understood", text)
	}
	pack, err1 := strconv.ParseUint(parts[0], 10, 32)
	offset, err2 := strconv.ParseInt(parts[1], 10, 64)
	length, err3 := strconv.ParseUint(parts[2], 10, 32)
	_, err4 := hex.Decode(b.Sum[:], []byte(parts[3]))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return fmt.Errorf("block %q: %w", text, err)
	}
	b.Pack, b.Offset, b.Length = uint32(pack), offset, uint32(length)
	return nil
}

// filesWriter stores files.json.zst line by line. Safe for concurrent use.
type filesWriter struct {
	pipe   *io.PipeWriter
	outer  io.Closer // of the encryption; else nothing
	stored chan error

	mu  sync.Mutex
	enc *zstd.Encoder
	sum hash.Hash // of the text before compression
	err error
}

// newFilesWriter begins the list of files under a key.
func newFilesWriter(ctx context.Context, repo *Repo, key string) (*filesWriter, error) {
	r, w := io.Pipe()
	f := &filesWriter{pipe: w, outer: io.NopCloser(nil), sum: sha256.New(), stored: make(chan error, 1)}
	go func() {
		err := repo.Put(ctx, key, r, PutOptions{})
		r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
		f.stored <- err
	}()
	var out io.Writer = w
	if repo.keys != nil {
		sealed, err := repo.keys.seal(w)
		if err != nil {
			f.abort()
			return nil, err
		}
		out, f.outer = sealed, sealed
	}
	enc, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		f.abort()
		return nil, err
	}
	f.enc = enc
	return f, nil
}

// add writes one entry.
func (f *filesWriter) add(e *fileEntry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.sum.Write(line)
		_, f.err = f.enc.Write(line)
	}
	return f.err
}

// close makes the list durable and returns its checksum.
func (f *filesWriter) close() (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := errors.Join(f.err, f.enc.Close(), f.outer.Close(), f.pipe.Close())
	if err = errors.Join(err, <-f.stored); err != nil {
		return "", fmt.Errorf("store the list of files: %w", err)
	}
	return hex.EncodeToString(f.sum.Sum(nil)), nil
}

// abort gives the list up.
func (f *filesWriter) abort() {
	f.pipe.CloseWithError(errors.New("backup given up"))
	<-f.stored
}

// readFiles calls each for every entry of a backup's list of files, and fails at the end when the list is not the one
// the backup's record names.
func readFiles(ctx context.Context, repo *Repo, b *Backup, each func(*fileEntry) error) error {
	key := repo.filesKey(b.ID)
	body, err := repo.Get(ctx, key, 0, -1)
	if err != nil {
		return fmt.Errorf("list of files of backup %s: %w", b.ID, err)
	}
	defer func() { _ = body.Close() }() // read only
	var clear io.Reader = body
	if repo.keys != nil {
		if clear, err = repo.keys.decrypt(body, b.Recipients); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	dec, err := zstd.NewReader(clear, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer dec.Close()
	sum := sha256.New()
	lines := bufio.NewReaderSize(io.TeeReader(dec, sum), 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		var e fileEntry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if err := each(&e); err != nil {
			return err
		}
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != b.FilesSHA256 {
		return fmt.Errorf("%s: %w: its sha256 is %s, the record of the backup says %s", key, ErrDamaged, got, b.FilesSHA256)
	}
	return nil
}

// checkKeys makes sure that a backup can be opened, before anything else is lost. ErrNoKey.
func (r *Repo) checkKeys(ctx context.Context, b *Backup) error {
	if r.keys == nil {
		return nil
	}
	body, err := r.Get(ctx, r.filesKey(b.ID), 0, maxHeader)
	if err == nil {
		_, err = r.keys.decrypt(body, b.Recipients)
		err = errors.Join(err, body.Close())
	}
	if err != nil {
		return fmt.Errorf("backup %s: %w", b.ID, err)
	}
	return nil
}

// baseFile is what a backup keeps in mind of a file of the one before.
type baseFile struct {
	size      int64
	blockSize int
	blocks    []block
}

// baseIndex is an older backup as seen by the next one: blocks that are the same are not stored again.
type baseIndex struct {
	backup *Backup
	files  map[string]baseFile
	stale  map[uint32]bool // packs that are mostly dead: their blocks are stored anew
}

// maxDead is the share of dead bytes at which the blocks of a pack are stored anew.
const maxDead = 0.4

// loadBase reads the list of files of an older backup.
func loadBase(ctx context.Context, repo *Repo, b *Backup) (*baseIndex, error) {
	idx := &baseIndex{backup: b, files: map[string]baseFile{}, stale: map[uint32]bool{}}
	live := map[uint32]int64{}
	err := readFiles(ctx, repo, b, func(e *fileEntry) error {
		if e.Type == entryFile {
			idx.files[e.Path] = baseFile{size: e.Size, blockSize: e.BlockSize, blocks: e.Blocks}
		}
		for _, bl := range e.Blocks {
			live[bl.Pack] += int64(bl.Length)
		}
		return nil
	})
	for number, p := range b.Packs {
		if float64(live[number]) < (1-maxDead)*float64(p.Size) {
			idx.stale[number] = true
		}
	}
	return idx, err
}

// same finds the stored block with this content at this place of the file.
func (x *baseIndex) same(path string, blockSize, i, length int, sum [16]byte) (block, bool) {
	if x == nil {
		return block{}, false
	}
	f, ok := x.files[path]
	if !ok || f.blockSize != blockSize || i >= len(f.blocks) || f.blocks[i].Sum != sum || x.stale[f.blocks[i].Pack] {
		return block{}, false
	}
	whole := fileEntry{Size: f.size, BlockSize: f.blockSize}
	return f.blocks[i], whole.length(i) == length
}
