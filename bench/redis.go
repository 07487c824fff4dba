package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// redisConn asks Redis for numbers and texts, in inline commands.
type redisConn struct {
	conn net.Conn
	in   *bufio.Reader
}

// dialRedis waits for a Redis that starts.
func dialRedis(ctx context.Context, socket string) (*redisConn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "unix", socket)
		if err == nil {
			return &redisConn{conn, bufio.NewReader(conn)}, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(time.Millisecond):
		}
	}
}

// do returns the number that is answered, 0 for OK.
func (c *redisConn) do(command string) (int, error) {
	line, err := c.ask(command)
	if err != nil || line == "+OK\r\n" {
		return 0, err
	}
	number, ok := strings.CutPrefix(line, ":")
	n, err := strconv.Atoi(strings.TrimSpace(number))
	if !ok || err != nil {
		return 0, fmt.Errorf("redis, %s: %q", command, line)
	}
	return n, nil
}

// text returns the text that is answered.
func (c *redisConn) text(command string) (string, error) {
	line, err := c.ask(command)
	if err != nil {
		return "", err
	}
	length, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "$")))
	if err != nil {
		return "", fmt.Errorf("redis, %s: %q", command, line)
	}
	text := make([]byte, length+len("\r\n"))
	_, err = io.ReadFull(c.in, text)
	return string(text[:length]), err
}

// ask returns the first line of the answer.
func (c *redisConn) ask(command string) (string, error) {
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := c.conn.Write([]byte(command + "\r\n")); err != nil {
		return "", err
	}
	return c.in.ReadString('\n')
}

// forget deletes all keys of a pattern.
func (c *redisConn) forget(pattern string) error {
	_, err := c.do(`EVAL "for _, key in ipairs(redis.call('KEYS', '` + pattern + `')) do redis.call('DEL', key) end return 0" 0`)
	return err
}

// info is a section of what Redis tells of itself.
type info map[string]string

func (c *redisConn) info(section string) (info, error) {
	text, err := c.text("INFO " + section)
	all := info{}
	for line := range strings.SplitSeq(text, "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			all[name] = value
		}
	}
	return all, err
}

// number is a field that is one, else 0.
func (i info) number(name string) float64 {
	n, _ := strconv.ParseFloat(i[name], 64)
	return n
}
