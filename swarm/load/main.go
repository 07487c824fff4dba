// Command load calls a deployed Holdline while somebody does things to it, and
// checks that no accepted call is lost: it waits for the answer of each.
//
// Standard input says what is done, a line each; a row of the report follows
// each end, and the sums follow the end of the input:
//
//	begin FAILED REPEATED NAME   so many calls may fail and be repeated; - is any number
//	end NOTE
//
// It exits with 1 when a call was lost, answered wrongly, or failed where none may.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"holdline/client"
)

// answerTime is how long answers are waited for once nobody calls any more.
const answerTime = 2 * time.Minute

func main() {
	server := flag.String("server", "127.0.0.1:8080", "host:port of the gateway")
	flag.Parse()
	if err := run(*server, os.Stdin, newBook(os.Stdout)); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(server string, in io.Reader, b *book) error {
	answering, cut := context.WithCancel(context.Background())
	defer cut()
	calling, stop := context.WithCancel(answering)
	defer stop()
	accepted := make(chan task, 1000)
	var calls, reads sync.WaitGroup
	for i, c := range callersOf(clientsOf(server)) {
		calls.Go(func() { c.run(calling, answering, i, b, accepted) })
	}
	clients := clientsOf(server)
	for i := range readers {
		reads.Go(func() { readAll(answering, client.New(clients[i%len(clients)]), b, accepted) })
	}
	var bad error
	for lines := bufio.NewScanner(in); lines.Scan() && bad == nil; {
		verb, rest, _ := strings.Cut(lines.Text(), " ")
		switch verb {
		case "begin":
			bad = b.begin(rest)
		case "end":
			b.end(rest)
		default:
			bad = fmt.Errorf("%q: want begin FAILED REPEATED NAME or end NOTE", lines.Text())
		}
	}
	stop()
	time.AfterFunc(answerTime, cut)
	calls.Wait()
	close(accepted)
	reads.Wait()
	if bad != nil {
		return bad
	}
	return b.close()
}
