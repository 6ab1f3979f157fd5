package cascade

// WithHook lets tests end a worker at a point of a batch: a, b, chunk, copied, c, d, e, f.
func (o WorkerOptions) WithHook(hook func(point string) error) WorkerOptions {
	o.hook = hook
	return o
}
