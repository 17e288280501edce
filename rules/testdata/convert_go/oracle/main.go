// Fills in what Go's strconv.ParseFloat makes of the texts in ../floats.txt: `go run . < ../floats.txt > new && mv new ../floats.txt`.
package main

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		text, _, _ := strings.Cut(lines.Text(), "\t")
		number, err := strconv.ParseFloat(text, 64)
		switch {
		case err != nil:
			fmt.Printf("%s\t%v\n", text, err)
		case math.IsNaN(number):
			fmt.Printf("%s\tNaN\n", text)
		default:
			fmt.Printf("%s\t%016x\n", text, math.Float64bits(number))
		}
	}
}
