package walarchive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// Reads of packs: blocks that stand beside each other are read in one go.
const (
	spanLimit = 4 << 20
	spanGap   = 64 << 10
)

// restoreFile is one file being written.
type restoreFile struct {
	entry fileEntry
	path  string
}

// place is one block to be written.
type blockPlace struct {
	block
	file  *restoreFile
	index int
}

// span is a part of a pack that is read in one go.
type span struct {
	pack   uint32
	from   int64
	to     int64
	blocks []blockPlace
}

// copyFiles writes all files: parallel readers take parts of packs, and check each block before it is written. When it
// returns nil, the content of every file is durable.
func (run *restoreRun) copyFiles(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	total := run.p.Backup.Bytes
	var done atomic.Int64
	progress := func(n int) { run.p.o.Progress(done.Add(int64(n)), total) }
	places, err := run.create(ctx, progress)
	if err != nil {
		return err
	}
	work := make(chan span)
	var workers sync.WaitGroup
	for range run.p.o.Jobs {
		workers.Go(func() {
			if err := run.readSpans(ctx, work, progress); err != nil {
				cancel(err)
			}
		})
	}
	for _, s := range spans(places) {
		select {
		case work <- s:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(work)
	workers.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return run.syncAll(ctx)
}

// syncers is the number of files that are synced at the same time: a file system commits many at once for the price of
// one.
const syncers = 32

// syncAll makes the content of all files and the names in all directories durable.
func (run *restoreRun) syncAll(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	paths := make(chan string)
	var workers sync.WaitGroup
	for range syncers {
		workers.Go(func() {
			for path := range paths {
				if err := syncPath(path); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, f := range run.sortedFiles() {
		if ctx.Err() != nil {
			break
		}
		paths <- f.path
	}
	for _, dir := range append(run.dirs, run.root) {
		paths <- dir
	}
	close(paths)
	workers.Wait()
	return context.Cause(ctx)
}

// create makes all files with their sizes, and lists the blocks to write. With delta, blocks that are there already are
// not listed.
func (run *restoreRun) create(ctx context.Context, progress func(int)) ([]blockPlace, error) {
	var places []blockPlace
	for _, f := range run.sortedFiles() {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		file, err := run.openFile(f)
		if err != nil {
			return nil, err
		}
		missing, err := run.missing(f, file, progress)
		if err == nil {
			err = file.Truncate(f.entry.Size)
		}
		if err = errors.Join(err, file.Close()); err != nil {
			return nil, err
		}
		for _, i := range missing {
			places = append(places, blockPlace{block: f.entry.Blocks[i], file: f, index: i})
		}
	}
	return places, nil
}

// openFile makes a file, or opens the one that is there.
func (run *restoreRun) openFile(f *restoreFile) (*os.File, error) {
	flags := os.O_RDWR | os.O_CREATE
	if run.p.o.Existing != DestDelta {
		flags |= os.O_EXCL
	} else if info, err := os.Lstat(f.path); err == nil && !info.Mode().IsRegular() {
		if err := os.RemoveAll(f.path); err != nil {
			return nil, err
		}
	}
	file, err := os.OpenFile(f.path, flags, fs.FileMode(f.entry.Mode))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(file.Chmod(fs.FileMode(f.entry.Mode)), run.own(f.path)); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// missing lists the blocks of a file that have to be written. Times of files are never trusted: every block is hashed.
func (run *restoreRun) missing(f *restoreFile, file *os.File, progress func(int)) ([]int, error) {
	var list []int
	size := int64(0)
	if run.p.o.Existing == DestDelta {
		info, err := file.Stat()
		if err != nil {
			return nil, err
		}
		size = info.Size()
	}
	var buf []byte
	for i := range f.entry.Blocks {
		n, at := f.entry.length(i), int64(i)*int64(f.entry.BlockSize)
		if at+int64(n) <= size {
			if buf == nil {
				buf = make([]byte, f.entry.BlockSize)
			}
			if _, err := file.ReadAt(buf[:n], at); err != nil {
				return nil, err
			}
			if run.repo.blockSum(buf[:n]) == f.entry.Blocks[i].Sum {
				progress(n)
				continue
			}
		}
		list = append(list, i)
	}
	return list, nil
}

// spans groups blocks that stand beside each other in a pack.
func spans(places []blockPlace) []span {
	slices.SortFunc(places, func(a, b blockPlace) int {
		return cmp.Or(cmp.Compare(a.Pack, b.Pack), cmp.Compare(a.Offset, b.Offset))
	})
	var list []span
	for _, p := range places {
		end := p.Offset + int64(p.Length)
		if n := len(list); n > 0 {
			last := &list[n-1]
			if last.pack == p.Pack && p.Offset <= last.to+spanGap && end-last.from <= spanLimit {
				last.to = max(last.to, end)
				last.blocks = append(last.blocks, p)
				continue
			}
		}
		list = append(list, span{pack: p.Pack, from: p.Offset, to: end, blocks: []blockPlace{p}})
	}
	return list
}

// readSpans is one reader.
func (run *restoreRun) readSpans(ctx context.Context, work <-chan span, progress func(int)) (err error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		return err
	}
	defer dec.Close()
	w := &blockWriter{}
	defer func() { err = errors.Join(err, w.close()) }()
	raw, clear := make([]byte, 0, spanLimit), make([]byte, 0, maxBlock)
	for {
		var s span
		var more bool
		select {
		case s, more = <-work:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !more {
			return nil
		}
		if raw, err = run.readSpan(ctx, s, raw); err != nil {
			return err
		}
		for _, p := range s.blocks {
			frame := raw[p.Offset-s.from:][:p.Length]
			if clear, err = run.repo.openBlock(dec, p, frame, clear); err != nil {
				return err
			}
			if err := w.write(p, clear); err != nil {
				return err
			}
			progress(len(clear))
		}
	}
}

// readSpan reads a part of a pack.
func (run *restoreRun) readSpan(ctx context.Context, s span, raw []byte) ([]byte, error) {
	pack, ok := run.p.Backup.Packs[s.pack]
	if !ok {
		return raw, fmt.Errorf("the list of files names pack %d, the backup has none: %w", s.pack, ErrDamaged)
	}
	n := s.to - s.from
	raw = slices.Grow(raw[:0], int(n))[:n]
	body, err := run.repo.Get(ctx, pack.Key, s.from, n)
	if err != nil {
		return raw, fmt.Errorf("%s: %w", pack.Key, err)
	}
	_, err = io.ReadFull(body, raw)
	if cerr := body.Close(); err == nil {
		err = cerr
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: it ends before byte %d", ErrDamaged, s.to)
	}
	if err != nil {
		return raw, fmt.Errorf("%s: %w", pack.Key, err)
	}
	return raw, nil
}

// openBlock decodes the frame of a block, and proves its content.
func (r *Repo) openBlock(dec *zstd.Decoder, p blockPlace, frame, clear []byte) ([]byte, error) {
	packed, err := r.unlock(frame, nil)
	if err != nil {
		return clear, err
	}
	clear, err = dec.DecodeAll(packed, clear[:0])
	if err == nil && len(clear) != p.file.entry.length(p.index) {
		err = fmt.Errorf("it has %d bytes, expected %d", len(clear), p.file.entry.length(p.index))
	}
	if err == nil && (r.keys == nil || r.keys.tagKey != nil) && r.blockSum(clear) != p.Sum {
		err = errors.New("its hash is another one")
	}
	if err != nil {
		return clear, fmt.Errorf("block %d of %s: %w: %w", p.index, p.file.entry.Path, ErrDamaged, err)
	}
	return clear, nil
}

// blockWriter writes blocks; it keeps the last file open, since blocks of a file mostly come together.
type blockWriter struct {
	file *restoreFile
	f    *os.File
}

// write writes one block.
func (w *blockWriter) write(p blockPlace, content []byte) error {
	if w.file != p.file {
		if err := w.close(); err != nil {
			return err
		}
		f, err := os.OpenFile(p.file.path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		w.file, w.f = p.file, f
	}
	_, err := w.f.WriteAt(content, int64(p.index)*int64(p.file.entry.BlockSize))
	return err
}

// close closes the open file.
func (w *blockWriter) close() error {
	if w.f == nil {
		return nil
	}
	err := w.f.Close()
	w.file, w.f = nil, nil
	return err
}
