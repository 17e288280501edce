// Fills in what Go's text/template makes of the cases in ../go.test: `go run . < ../go.test > new && mv new ../go.test`.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"text/template"
	"time"
)

type sample struct {
	Body string
	N    int
}

type data struct {
	Labels  map[string]string
	Value   float64
	Samples []sample
	Names   []string
	Start   time.Time
	Took    time.Duration
}

const prelude = `{{ $labels := .Labels }}{{ $value := .Value }}`

func main() {
	text, _ := io.ReadAll(os.Stdin)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for i, one := range strings.Split(string(text), "===\n") {
		source, _, _ := strings.Cut(one, "---\n")
		if i > 0 {
			fmt.Fprint(out, "===\n")
		}
		fmt.Fprintf(out, "%s---\n%s\n", source, expand(strings.TrimSuffix(source, "\n")))
	}
}

func expand(source string) string {
	parsed, err := template.New("").Option("missingkey=zero").Parse(prelude + source)
	if err != nil {
		return "error"
	}
	values := data{
		Labels:  map[string]string{"a": "x", "b": "<y> & 'z'"},
		Value:   20.5,
		Samples: []sample{{"first", 1}, {"second", 2}},
		Names:   []string{"n1", "n 2"},
		Start:   time.Date(2023, 11, 14, 22, 13, 20, 120_000_000, time.UTC),
		Took:    90*time.Second + 500*time.Millisecond,
	}
	var out strings.Builder
	if err := parsed.Execute(&out, values); err != nil {
		return "error"
	}
	return out.String()
}
