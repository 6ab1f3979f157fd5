package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
)

// Exit codes of every command but check (which has the four of a monitoring probe). They are a contract for scripts.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2 // usage or bad configuration
	exitConnect = 3 // cannot connect, or not let in
	exitMissing = 4 // the named thing does not exist
	exitRefused = 5 // a precondition does not hold
	exitTimeout = 6
	exitPartial = 7   // some parts done, some not
	exitSignal  = 128 // + signal number: an interrupted one-shot command
)

// exitName is the code in the JSON error document.
func exitName(code int) string {
	switch code {
	case exitUsage:
		return "usage"
	case exitConnect:
		return "connect"
	case exitMissing:
		return "not_found"
	case exitRefused:
		return "refused"
	case exitTimeout:
		return "timeout"
	case exitPartial:
		return "partial"
	}
	if code > exitSignal {
		return "interrupted"
	}
	return "failed"
}

// commandError is an error with its exit code and the way out for the user.
type commandError struct {
	code int
	hint string
	err  error
}

// Error implements error.
func (e *commandError) Error() string { return e.err.Error() }

// Unwrap gives errors.Is and errors.As the cause.
func (e *commandError) Unwrap() error { return e.err }

// usageError marks wrong arguments or a bad configuration.
func usageError(format string, args ...any) error {
	return &commandError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// withExit gives err an exit code and a hint: what the user can do next. An empty hint is fine.
func withExit(code int, hint string, err error) error {
	if err == nil {
		return nil
	}
	return &commandError{code: code, hint: hint, err: err}
}

// exitCode maps an error to the exit code of the command. What a command did not classify itself is told by its cause.
func exitCode(err error) int {
	var (
		command *commandError
		sig     *signalError
		dial    *net.OpError
		dns     *net.DNSError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &sig):
		return exitSignal + int(sig.sig)
	case errors.As(err, &command):
		return command.code
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), sqlState(err) == "57014":
		return exitTimeout
	case connectState(sqlState(err)), errors.As(err, &dial), errors.As(err, &dns):
		return exitConnect
	default:
		return exitFailed
	}
}

// connectState reports whether a SQLSTATE says that the server could not be reached or did not let us in.
func connectState(state string) bool {
	return strings.HasPrefix(state, "08") || strings.HasPrefix(state, "28") ||
		slices.Contains([]string{"3D000", "53300", "57P01", "57P02", "57P03"}, state)
}

// sqlState is the SQLSTATE of the first server error in the chain, or empty.
func sqlState(err error) string {
	var server interface{ SQLState() string }
	if errors.As(err, &server) {
		return server.SQLState()
	}
	return ""
}

// errorDocument is what --output json prints on stderr.
type errorDocument struct {
	Error errorBody `json:"error"`
}

// errorBody is the content of errorDocument.
type errorBody struct {
	Code     string `json:"code"`
	Message  string `json:"message"`
	Hint     string `json:"hint,omitempty"`
	SQLState string `json:"sqlstate,omitempty"`
}

// fail prints err once, as one line or one JSON document, and returns the exit code.
func (a *app) fail(err error, asJSON bool) int {
	code := exitCode(err)
	var hint string
	if command := new(commandError); errors.As(err, &command) {
		hint = command.hint
	}
	if asJSON {
		doc := errorDocument{errorBody{Code: exitName(code), Message: err.Error(), Hint: hint, SQLState: sqlState(err)}}
		enc := json.NewEncoder(a.stderr)
		enc.SetEscapeHTML(false)
		if enc.Encode(doc) == nil {
			return code
		}
	}
	line := oneLine(err.Error())
	if hint != "" {
		line += " (" + hint + ")"
	}
	fmt.Fprintln(a.stderr, "skyd: "+line)
	return code
}

// oneLine joins the lines of an error text.
func oneLine(text string) string {
	var parts []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			parts = append(parts, line)
		}
	}
	joined := strings.Join(parts, "; ")
	return strings.ReplaceAll(joined, ":; ", ": ")
}

// wantsJSON reports whether errors are to be printed as JSON; it also looks at the raw arguments, because a usage
// error may have stopped the parser before it reached --output.
func wantsJSON(parsed string, args []string) bool {
	if parsed == "json" || parsed == "yaml" {
		return parsed == "json"
	}
	for i, arg := range args {
		switch {
		case arg == "--":
			return false
		case arg == "--output=json", arg == "-o=json", arg == "-ojson":
			return true
		case (arg == "--output" || arg == "-o") && i+1 < len(args) && args[i+1] == "json":
			return true
		}
	}
	return false
}
