package server

// EndCalls does what a drain does when it has taken long.
func (s *Server) EndCalls() { s.endCalls() }
