package pgqsql

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// function is one create function statement of a file with its header contract.
type function struct {
	name      string // pgq.next_batch
	arguments string // argument list without defaults, as comment on function takes it
	header    header
	err       error // why the header is no contract
}

// header is the contract at the top of a function body.
type header struct {
	Function   string // pgq.next_batch(2): name and number of input parameters
	Purpose    string
	Parameters []parameter
	Returns    string
	Raises     string
	Calls      string
	Tables     string
	Locks      string
}

// parameter is one line of the section Parameters.
type parameter struct {
	Name string
	Text string
}

var (
	createFunction = regexp.MustCompile(`(?im)^create\s+(?:or\s+replace\s+)?function\s+([a-z0-9_."]+)\s*\(`)
	defaultValue   = regexp.MustCompile(`(?is)\s*(\bdefault\b|=).*$`)
	headerBar      = regexp.MustCompile(`^\s*-- -{10,}\s*$`)
	headerSection  = regexp.MustCompile(`^(Function|Parameters|Returns|Raises|Calls|Tables|Locks):\s*(.*)$`)
	parameterLine  = regexp.MustCompile(`^(\S+)\s+-\s+(.*)$`)
	sentenceEnd    = regexp.MustCompile(`[.](\s|$)`)
)

// parseFunctions finds the functions of a file.
func parseFunctions(text string) []function {
	var found []function
	starts := createFunction.FindAllStringSubmatchIndex(text, -1)
	for i, at := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		arguments, rest := cutArguments(text[at[1]:end])
		f := function{name: text[at[2]:at[3]], arguments: arguments}
		f.header, f.err = parseHeader(rest)
		found = append(found, f)
	}
	return found
}

// cutArguments splits the text after the opening parenthesis into the argument list without defaults and the rest.
func cutArguments(text string) (arguments, rest string) {
	var (
		list  []string
		depth = 1
		start = 0
	)
	add := func(end int) {
		arg := strings.Join(strings.Fields(defaultValue.ReplaceAllString(text[start:end], "")), " ")
		if arg != "" {
			list = append(list, arg)
		}
	}
	for i, c := range text {
		switch {
		case c == '(':
			depth++
		case c == ')':
			depth--
			if depth == 0 {
				add(i)
				return strings.Join(list, ", "), text[i+1:]
			}
		case c == ',' && depth == 1:
			add(i)
			start = i + 1
		}
	}
	return strings.Join(list, ", "), ""
}

// parseHeader reads the header contract: a block of comments between two bars, the first thing in a function body.
// All sections are mandatory and in this order.
func parseHeader(body string) (header, error) {
	var h header
	block, err := headerBlock(body)
	if err != nil {
		return h, err
	}
	want := []string{"Function", "Parameters", "Returns", "Raises", "Calls", "Tables", "Locks"}
	sections := map[string][]string{}
	current := ""
	for _, line := range block {
		if m := headerSection.FindStringSubmatch(line); m != nil {
			if len(want) == 0 || want[0] != m[1] {
				return h, fmt.Errorf("header: section %s is out of order or twice", m[1])
			}
			want, current = want[1:], m[1]
			if current == "Function" {
				h.Function, line = m[2], ""
			} else {
				line = m[2]
			}
		}
		if line = strings.TrimSpace(line); line != "" {
			sections[current] = append(sections[current], line)
		}
	}
	if len(want) > 0 {
		return h, fmt.Errorf("header: section %s is missing", want[0])
	}
	h.Purpose = strings.Join(sections["Function"], " ")
	if h.Purpose == "" {
		return h, fmt.Errorf("header: no purpose under Function")
	}
	for name, field := range map[string]*string{
		"Returns": &h.Returns, "Raises": &h.Raises, "Calls": &h.Calls,
		"Tables": &h.Tables, "Locks": &h.Locks,
	} {
		if *field = strings.Join(sections[name], "\n"); *field == "" {
			return h, fmt.Errorf("header: section %s is empty (write none)", name)
		}
	}
	h.Parameters, err = parseParameters(sections["Parameters"])
	return h, err
}

// headerBlock returns the lines between the two bars, without the comment marks.
func headerBlock(body string) ([]string, error) {
	lines := strings.Split(body, "\n")
	first := slices.IndexFunc(lines, headerBar.MatchString)
	if first < 0 {
		return nil, fmt.Errorf("no header")
	}
	var block []string
	for _, line := range lines[first+1:] {
		if headerBar.MatchString(line) {
			return block, nil
		}
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "--")
		if !ok {
			return nil, fmt.Errorf("header: not closed before %q", strings.TrimSpace(line))
		}
		block = append(block, strings.TrimPrefix(text, " "))
	}
	return nil, fmt.Errorf("header: not closed")
}

// parseParameters reads "name - text" lines; a line of another form continues the one above.
func parseParameters(lines []string) ([]parameter, error) {
	if len(lines) == 1 && lines[0] == "none" {
		return nil, nil
	}
	var found []parameter
	for _, line := range lines {
		m := parameterLine.FindStringSubmatch(line)
		switch {
		case m != nil:
			found = append(found, parameter{Name: m[1], Text: m[2]})
		case len(found) > 0:
			found[len(found)-1].Text += " " + line
		default:
			return nil, fmt.Errorf("header: %q is not a parameter line like: name - text", line)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("header: section Parameters is empty (write none)")
	}
	return found, nil
}

// summary is the first sentence of the purpose.
func (h header) summary() string {
	if at := sentenceEnd.FindStringIndex(h.Purpose); at != nil {
		return h.Purpose[:at[0]+1]
	}
	return h.Purpose
}

// commentStatements makes comment on function of every header, to be run after the functions themselves.
func commentStatements(functions []function) string {
	var b strings.Builder
	for _, f := range functions {
		if f.err == nil {
			fmt.Fprintf(&b, "\ncomment on function %s(%s) is %s;\n", f.name, f.arguments, literal(f.header.summary()))
		}
	}
	return b.String()
}

// literal quotes a text as an SQL string that needs no session setting to be read right.
func literal(s string) string {
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return "E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}
