#pragma once
// hull-images at work for a request: whatever reads a registry's or an archive's bytes is another process than the one
// that holds the engine, and tells what it does in Docker's messages, one JSON object a line.

#include <string>
#include <string_view>
#include <vector>

#include "api/request.h"

namespace hull::api {

struct ImagesJob {
  /// The command and its arguments, without the program; "--json-progress" is added after the first.
  std::vector<std::string> words;
  /// X-Registry-Auth as the client sent it; with `takes_auth` only that is used to log in.
  std::string_view auth;
  bool takes_auth = false;
  bool body_is_input = false;  // the request's body is its standard input
  bool raw_output = false;     // an archive, not messages
  bool whole_answer = false;   // one document, not a stream
  std::string_view content_type = "application/json";
};

/// Runs it and answers with what it says. What fails before there is anything to tell is the Error, with the kind that
/// the program told; later failures are a message in the stream, as with Docker.
Result<void> run_images_job(Request& request, Response& response, const ImagesJob& job);

/// The document of X-Registry-Auth (base64url of an AuthConfig; RFC 4648 with or without padding). Empty: "{}".
Result<std::string> decode_auth(std::string_view header);
/// And back.
std::string encode_auth(std::string_view document);

}  // namespace hull::api
