package redistest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// ask sends a command and returns its reply, which must be one word, number or text. If the server replies
// with an error, ask returns that as the reply: it begins with "-".
func (s *Server) ask(words ...string) (string, error) {
	conn, err := net.DialTimeout("unix", s.socket(), patience)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	var command strings.Builder
	fmt.Fprintf(&command, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(&command, "$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := io.WriteString(conn, command.String()); err != nil {
		return "", err
	}
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	switch line[0] {
	case '-':
		return line, nil
	case '$':
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 {
			return "", fmt.Errorf("reply of %q: %w", line, err)
		}
		text := make([]byte, n)
		_, err = io.ReadFull(r, text)
		return string(text), err
	}
	return line[1:], nil
}

// says tells whether the reply to a command contains a text. It is false if there is no reply: a server that
// changes its role closes its connections.
func (s *Server) says(text string, words ...string) bool {
	reply, err := s.ask(words...)
	return err == nil && strings.Contains(reply, text)
}

// Ask runs a command whose reply is one word, number or text. An error fails the test.
func (s *Server) Ask(tb testing.TB, words ...string) string {
	tb.Helper()
	reply, err := s.ask(words...)
	if err != nil || strings.HasPrefix(reply, "-") {
		tb.Fatalf("%v: %s, %v", words, reply, err)
	}
	return reply
}
