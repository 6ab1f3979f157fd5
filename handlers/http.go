package handlers

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/skytools/skyd/pgq"
)

// webhook sends events by POST, signed as the Standard Webhooks specification says: headers webhook-id,
// webhook-timestamp and webhook-signature, HMAC-SHA256 over "id.timestamp.body". The id is the same for every delivery
// of the same event, so that the receiver can tell repeats.
type webhook struct {
	c      Config
	env    Env
	key    []byte
	client *http.Client
	pause  func(ctx context.Context, d time.Duration) error
}

// newHTTP makes the handler of kind http.
func newHTTP(c Config, env Env) (*Handler, error) {
	secret := c.Secret
	if c.SecretFile != "" {
		text, err := os.ReadFile(c.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("read the secret of the webhook: %w", err)
		}
		secret, _, _ = strings.Cut(string(text), "\n")
		if secret = strings.TrimSpace(secret); secret == "" {
			return nil, fmt.Errorf("%s: the secret of the webhook is empty", c.SecretFile)
		}
	}
	w := &webhook{c: c, env: env, pause: pause, client: &http.Client{
		Timeout: c.Timeout,
		// A redirected POST loses its body or its signature; the answer is an error instead.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if secret != "" {
		var err error
		if w.key, err = signingKey(secret); err != nil {
			return nil, err
		}
	}
	h := &Handler{Handler: pgq.EventHandler(w.event), close: func() error { w.client.CloseIdleConnections(); return nil }}
	if c.Batch {
		h.Handler = pgq.BatchHandler(w.batch)
	}
	return h, nil
}

// signingKey is the key of a secret: whsec_ and base64, or the text itself.
func signingKey(secret string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(secret, "whsec_")
	if !ok {
		return []byte(secret), nil
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) == 0 {
		return nil, errors.New("what follows whsec_ is not base64")
	}
	return key, nil
}

// event sends one event.
func (w *webhook) event(ctx context.Context, ev *pgq.Event) error {
	b := pgq.Batch{Queue: w.env.Queue, Consumer: w.env.Consumer}
	doc := toJSON(&b, ev)
	body, err := json.Marshal(struct {
		eventJSON
		BatchID int `json:"batch_id,omitempty"` // a repeated event may come in another batch
	}{eventJSON: doc})
	if err != nil {
		return fmt.Errorf("encode event %d: %w", ev.ID, err)
	}
	return w.deliver(ctx, w.id("%d", ev.ID), body)
}

// id names a delivery; names of queues and consumers may hold what a header may not.
func (w *webhook) id(format string, args ...any) string {
	return url.PathEscape(w.env.Queue) + "/" + url.PathEscape(w.env.Consumer) + "/" + fmt.Sprintf(format, args...)
}

// batchSize bounds one request of a batch.
const batchSize = 500

// batch sends the events of a batch as arrays.
func (w *webhook) batch(ctx context.Context, b *pgq.Batch) error {
	var docs []eventJSON
	part := 0
	send := func() error {
		body, err := json.Marshal(docs)
		if err != nil {
			return fmt.Errorf("encode batch %d: %w", b.ID, err)
		}
		id := w.id("batch/%d/%d", b.ID, part)
		docs, part = docs[:0], part+1
		return w.deliver(ctx, id, body)
	}
	for ev, err := range b.Events(ctx) {
		if err != nil {
			return err
		}
		if docs = append(docs, toJSON(b, ev)); len(docs) == batchSize {
			if err := send(); err != nil {
				return err
			}
		}
	}
	if len(docs) == 0 {
		return nil
	}
	return send()
}

// answerError is an answer that is not a success.
type answerError struct {
	status int
	after  time.Duration
	text   string
}

func (e *answerError) Error() string {
	return fmt.Sprintf("the webhook answered %d %s: %s", e.status, http.StatusText(e.status), e.text)
}

// again tells whether another try may help.
func (e *answerError) again() bool {
	return e.status >= 500 || e.status == http.StatusTooManyRequests || e.status == http.StatusRequestTimeout ||
		e.status == http.StatusTooEarly
}

// deliver sends one body until it is taken, refused for good, or tried often enough.
func (w *webhook) deliver(ctx context.Context, id string, body []byte) error {
	for try := 1; ; try++ {
		err := w.post(ctx, id, body)
		answer := (*answerError)(nil)
		if err == nil || ctx.Err() != nil || errors.As(err, &answer) && !answer.again() || try >= w.c.Attempts {
			return err
		}
		d := 200 * time.Millisecond << min(try-1, 8)
		d = d/2 + rand.N(d)
		if answer != nil && answer.after > d {
			d = min(answer.after, w.c.Timeout)
		}
		if err := w.pause(ctx, d); err != nil {
			return err
		}
	}
}

// pause waits, at most until the context ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// post is one request.
func (w *webhook) post(ctx context.Context, id string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.c.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for name, value := range w.c.Headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "skyd")
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", stamp)
	if w.key != nil {
		req.Header.Set("Webhook-Signature", sign(w.key, id, stamp, body))
	}
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(req.Header))
	resp, err := w.client.Do(req)
	if err != nil {
		return fmt.Errorf("call the webhook: %w", err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // for the error only
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	return &answerError{status: resp.StatusCode, after: time.Duration(after) * time.Second, text: strings.TrimSpace(string(text))}
}

// sign is the value of webhook-signature.
func sign(key []byte, id, stamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
