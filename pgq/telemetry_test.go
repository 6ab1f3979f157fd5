package pgq

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

func TestSchemaURL_IsTheConventionsOne(t *testing.T) {
	t.Parallel()
	if SchemaURL != semconv.SchemaURL {
		t.Errorf("got %s, want %s", SchemaURL, semconv.SchemaURL)
	}
	for _, c := range []struct{ ours, theirs any }{
		{KeyMessagingSystem, semconv.MessagingSystemKey},
		{KeyMessagingOperationName, semconv.MessagingOperationNameKey},
		{KeyMessagingOperationType, semconv.MessagingOperationTypeKey},
		{KeyMessagingDestination, semconv.MessagingDestinationNameKey},
		{KeyMessagingConsumerGroup, semconv.MessagingConsumerGroupNameKey},
		{KeyMessagingClientID, semconv.MessagingClientIDKey},
		{KeyMessagingBatchCount, semconv.MessagingBatchMessageCountKey},
		{KeyMessagingMessageID, semconv.MessagingMessageIDKey},
		{KeyDBSystem, semconv.DBSystemNameKey},
		{KeyDBNamespace, semconv.DBNamespaceKey},
		{KeyDBOperation, semconv.DBOperationNameKey},
		{KeyDBStoredProcedure, semconv.DBStoredProcedureNameKey},
		{KeyDBResponseStatus, semconv.DBResponseStatusCodeKey},
		{KeyErrorType, semconv.ErrorTypeKey},
		{KeyServerAddress, semconv.ServerAddressKey},
		{KeyServerPort, semconv.ServerPortKey},
	} {
		if c.ours != c.theirs {
			t.Errorf("got %v, want %v", c.ours, c.theirs)
		}
	}
}

func TestParseTraceparent_StrictOrNothing(t *testing.T) {
	t.Parallel()
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	if sc, ok := ParseTraceparent(good); !ok || FormatTraceparent(sc) != good || !sc.IsRemote() || !sc.IsSampled() {
		t.Errorf("got %v, %v, want %s back", sc, ok, good)
	}
	for _, bad := range []string{
		"", "00", good[:54], good + "0", good + "-00", " " + good[1:],
		strings.ToUpper(good), strings.Replace(good, "00-", "01-", 1), strings.Replace(good, "00-", "ff-", 1),
		strings.ReplaceAll(good, "-", "_"), strings.Replace(good, "0af7", "0ag7", 1), strings.Replace(good, "0af7", "-af7", 1),
		"00-00000000000000000000000000000000-b7ad6b7169203331-01",
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
	} {
		if sc, ok := ParseTraceparent(bad); ok {
			t.Errorf("%q: got %v, want it ignored", bad, sc)
		}
	}
}

func FuzzParseTraceparent(f *testing.F) {
	for _, s := range []string{
		"", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff",
		"00-------------------------------------------------- -01",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		sc, ok := ParseTraceparent(s)
		if !ok {
			if sc.IsValid() {
				t.Errorf("%q: refused, but valid %v", s, sc)
			}
			return
		}
		// Only the flags may differ on the way back: unknown ones are dropped.
		if back := FormatTraceparent(sc); len(s) != 55 || back[:53] != s[:53] {
			t.Errorf("got %q back for %q", back, s)
		}
	})
}

func TestErrorType_IsBoundedAndWithoutData(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{fmt.Errorf("x: %w", &pgconn.PgError{Code: "40001", Message: "data"}), "40001"},
		{fmt.Errorf("x: %w", ErrBatchGone), "batch_gone"},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), "timeout"},
		{errors.New("data"), "_OTHER"},
		{io.EOF, "_OTHER"},
		{fmt.Errorf("x: %w", &pgconn.ParseConfigError{}), "*pgconn.ParseConfigError"},
	} {
		if got := ErrorType(c.err); got != c.want {
			t.Errorf("%v: got %q, want %q", c.err, got, c.want)
		}
	}
}

func TestErrors_RetryablePermanentConnectionLost(t *testing.T) {
	t.Parallel()
	pg := func(code string) error { return fmt.Errorf("x: %w", &pgconn.PgError{Code: code, Message: "m"}) }
	for _, c := range []struct {
		err                        error
		retryable, permanent, lost bool
	}{
		{err: nil},
		{err: errors.New("x")},
		{err: context.Canceled},
		{err: pg("40001"), retryable: true},
		{err: pg("40P01"), retryable: true},
		{err: pg("55P03"), retryable: true},
		{err: pg("57014"), retryable: true},
		{err: pg("53300"), retryable: true},
		{err: pg("53100"), retryable: true},
		{err: pg("57P01"), retryable: true, lost: true},
		{err: pg("57P02"), retryable: true, lost: true},
		{err: pg("57P03"), retryable: true, lost: true},
		{err: pg("57P05"), retryable: true, lost: true},
		{err: pg("25P03"), retryable: true, lost: true},
		{err: pg("25006"), retryable: true, lost: true},
		{err: pg("08006"), retryable: true, lost: true},
		{err: fmt.Errorf("x: %w", io.ErrUnexpectedEOF), retryable: true, lost: true},
		{err: errors.New("conn closed"), retryable: true, lost: true},
		{err: pg("28P01"), permanent: true},
		{err: pg("28000"), permanent: true},
		{err: pg("3D000"), permanent: true},
		{err: pg("42501"), permanent: true},
		{err: classify(pg("3F000")), permanent: true},
		{err: fmt.Errorf("x: %w", ErrQueueNotFound), permanent: true},
		{err: fmt.Errorf("x: %w", ErrBatchGone)},
		{err: fmt.Errorf("x: %w", ErrTickerPaused)},
		{err: pg("23505")},
	} {
		if got := Retryable(c.err); got != c.retryable {
			t.Errorf("Retryable(%v): got %v", c.err, got)
		}
		if got := Permanent(c.err); got != c.permanent {
			t.Errorf("Permanent(%v): got %v", c.err, got)
		}
		if got := ConnectionLost(c.err); got != c.lost {
			t.Errorf("ConnectionLost(%v): got %v", c.err, got)
		}
	}
	if !ReadOnly(pg("25006")) || ReadOnly(pg("57P01")) || SQLState(errors.New("x")) != "" {
		t.Error("ReadOnly or SQLState is wrong")
	}
}

// Names of queues are anybody's text and must not turn one error into another.
func TestClassify_NamesAreNotMessages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		message string
		want    error
	}{
		{"insert into queue disallowed: queue not found: x", ErrQueueDisabled},
		{"queue not found: batch not found: 7", ErrQueueNotFound},
		{"Not subscriber to queue: no such queue/does not see tick", ErrNotSubscribed},
		{"Queue 'batch not found' allows max 5 events from one TX", ErrTxLimit},
		{`duplicate key value violates "queue not found"`, nil},
	} {
		err := classify(&pgconn.PgError{Code: "P0001", Message: c.message})
		for _, k := range []error{ErrQueueDisabled, ErrQueueNotFound, ErrNotSubscribed, ErrTxLimit, ErrBatchGone, ErrPositionLost} {
			if got := errors.Is(err, k); got != (k == c.want) {
				t.Errorf("%q: is %v: %v, want %v", c.message, k, got, c.want)
			}
		}
	}
}
