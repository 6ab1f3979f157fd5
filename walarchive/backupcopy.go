package walarchive

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
)

// quietFile is the age from which a file is cut in large blocks.
const quietFile = 7 * 24 * time.Hour

// BadPage is a page whose checksum does not fit its content.
type BadPage struct {
	Path  string `json:"path"`
	Block uint32 `json:"block"`
	LSN   LSN    `json:"lsn"`
	Have  uint16 `json:"have"`
	Want  uint16 `json:"want"`
}

// copier cuts files in blocks and stores those that the base does not have. One goroutine feeds it, several compress.
type copier struct {
	packs *packSet
	files *filesWriter
	base  *baseIndex
	// checkPages: verify the checksums of pages; those with a position from start on are being written.
	checkPages bool
	start      LSN
	now        time.Time
	jobs       int
	progress   func(done int64)

	work    chan *blockJob
	buffers chan []byte
	cancel  context.CancelCauseFunc
	idle    sync.WaitGroup

	done   atomic.Int64 // bytes read
	stored atomic.Int64 // bytes written to packs

	mu       sync.Mutex
	suspects []BadPage
	used     map[uint32]bool // packs of the base that are referred to
	sent     map[string]sentFile
	entries  int
	size     int64
}

// copyFile is a file whose blocks are under way.
type copyFile struct {
	entry fileEntry
	open  atomic.Int32 // blocks that are not done, plus one while the file is being read
}

// blockJob is one block to be stored.
type blockJob struct {
	file  *copyFile
	index int
	data  []byte
}

// run starts the workers.
func (c *copier) run(ctx context.Context, cancel context.CancelCauseFunc) {
	c.work = make(chan *blockJob, c.jobs)
	c.buffers = make(chan []byte, 3*c.jobs+2)
	for range cap(c.buffers) {
		c.buffers <- nil
	}
	c.cancel = cancel
	c.used, c.sent = map[uint32]bool{}, map[string]sentFile{}
	for range c.jobs {
		c.idle.Go(func() {
			if err := c.compress(ctx); err != nil {
				cancel(err)
			}
		})
	}
}

// finish waits for the workers; all blocks are then durable.
func (c *copier) finish() {
	close(c.work)
	c.idle.Wait()
}

// compress is one worker: it fills a pack of its own.
func (c *copier) compress(ctx context.Context) (err error) {
	enc, err := newBlockEncoder()
	if err != nil {
		return err
	}
	var pack *packWriter
	defer func() {
		if err != nil && pack != nil {
			pack.abort(err)
		}
	}()
	var frame []byte
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case job, more := <-c.work:
			if !more {
				if pack != nil {
					err, pack = pack.close(), nil
				}
				return err
			}
			if pack, frame, err = c.store(ctx, enc, pack, job, frame); err != nil {
				return err
			}
		}
	}
}

// store handles one block: finds it in the base, or compresses it into the pack.
func (c *copier) store(ctx context.Context, enc *zstd.Encoder, pack *packWriter, job *blockJob, frame []byte) (*packWriter, []byte, error) {
	e := &job.file.entry
	sum := c.packs.repo.blockSum(job.data)
	c.verify(e, job)
	ref, known := c.base.same(e.Path, e.BlockSize, job.index, len(job.data), sum)
	if known {
		c.mu.Lock()
		c.used[ref.Pack] = true
		c.mu.Unlock()
	} else {
		frame = enc.EncodeAll(job.data, frame[:0])
		stored, err := c.packs.repo.lock(frame)
		if err != nil {
			return pack, frame, err
		}
		if pack == nil {
			pack = c.packs.open(ctx)
		}
		offset, err := pack.add(stored)
		if err != nil {
			return pack, frame, err
		}
		c.stored.Add(int64(len(stored)))
		ref = block{Pack: pack.number, Offset: offset, Length: uint32(len(stored)), Sum: sum}
	}
	e.Blocks[job.index] = ref
	c.buffers <- job.data[:0]
	if err := c.blockDone(job.file); err != nil {
		return pack, frame, err
	}
	if pack != nil && pack.size >= packLimit {
		err := pack.close()
		return nil, frame, err
	}
	return pack, frame, nil
}

// blockDone writes the line of a file when nothing of it is under way any more.
func (c *copier) blockDone(f *copyFile) error {
	if f.open.Add(-1) > 0 {
		return nil
	}
	return c.files.add(&f.entry)
}

// verify notes pages with wrong checksums.
func (c *copier) verify(e *fileEntry, job *blockJob) {
	if !c.checkPages {
		return
	}
	if bad := badPages(e, job.index, job.data, c.start); len(bad) > 0 {
		c.mu.Lock()
		c.suspects = append(c.suspects, bad...)
		c.mu.Unlock()
	}
}

// badPages checks the pages of a block of a file. A page with a position from start on was being written: WAL has it
// whole.
func badPages(e *fileEntry, index int, data []byte, start LSN) (bad []BadPage) {
	first, ok := relationFile(e.Path)
	if !ok {
		return nil
	}
	first += uint32(int64(index) * int64(e.BlockSize) / pageSize)
	for i := 0; (i+1)*pageSize <= len(data); i++ {
		fault := checkPage((*[pageSize]byte)(data[i*pageSize:]), first+uint32(i))
		if fault == nil || fault.lsn >= start {
			continue
		}
		bad = append(bad, BadPage{Path: e.Path, Block: first + uint32(i), LSN: fault.lsn, Have: fault.have, Want: fault.got})
	}
	return bad
}

// archive takes all entries of one tar archive: the data directory, or a tablespace whose entries begin with prefix.
func (c *copier) archive(ctx context.Context, r io.Reader, prefix string) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Join(prefix, strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/"))
		if !cleanPath(name) {
			return fmt.Errorf("the server sent the path %q", h.Name)
		}
		e := fileEntry{Path: name, Size: h.Size, Mode: uint32(h.Mode & 0o777), MTime: h.ModTime.Unix()}
		switch h.Typeflag {
		case tar.TypeDir:
			e.Type, e.Size = entryDir, 0
			err = c.files.add(&e)
		case tar.TypeSymlink: // of a tablespace: known from the list of tablespaces
		case tar.TypeReg:
			e.Type = entryFile
			err = c.file(ctx, t, e)
		default:
			err = fmt.Errorf("the server sent %s of the unknown type %q", name, h.Typeflag)
		}
		if err != nil {
			return err
		}
	}
}

// cleanPath tells whether a path stays below the directory it is relative to.
func cleanPath(p string) bool {
	return p != "" && p != "." && path.Clean(p) == p && !path.IsAbs(p) && p != ".." && !strings.HasPrefix(p, "../")
}

// blockSize chooses how a file is cut: as in the base, else by its age.
func (c *copier) blockSize(e *fileEntry) int {
	if c.base != nil {
		if f, ok := c.base.files[e.Path]; ok && f.blockSize > 0 {
			return f.blockSize
		}
	}
	if c.now.Sub(time.Unix(e.MTime, 0)) > quietFile {
		return maxBlock
	}
	return smallBlock
}

// file cuts one file and hands its blocks to the workers.
func (c *copier) file(ctx context.Context, r io.Reader, e fileEntry) error {
	e.BlockSize = c.blockSize(&e)
	f := &copyFile{entry: e}
	count := int((e.Size + int64(e.BlockSize) - 1) / int64(e.BlockSize))
	f.entry.Blocks = make([]block, count)
	f.open.Store(int32(count) + 1)
	sum, crc := sha256.New(), uint32(0)
	for i := range count {
		data, err := c.buffer(ctx, e.BlockSize)
		if err != nil {
			return err
		}
		data = data[:e.length(i)]
		if _, err := io.ReadFull(r, data); err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
		sum.Write(data)
		crc = crc32.Update(crc, castagnoli, data)
		c.progress(c.done.Add(int64(len(data))))
		select {
		case c.work <- &blockJob{file: f, index: i, data: data}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	f.entry.SHA256 = hex.EncodeToString(sum.Sum(nil))
	c.mu.Lock()
	c.sent[e.Path] = sentFile{size: e.Size, crc: crc}
	c.entries++
	c.size += e.Size
	c.mu.Unlock()
	return c.blockDone(f)
}

// buffer takes a buffer of the fixed pool.
func (c *copier) buffer(ctx context.Context, size int) ([]byte, error) {
	select {
	case b := <-c.buffers:
		if cap(b) < size {
			b = make([]byte, size)
		}
		return b[:size], nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
