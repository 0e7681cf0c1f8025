// Gloo between CPUs, over the network interface that leads to rank 0.
#define USE_C10D_GLOO
#include "distributed/backends.h"

#include <cstdlib>
#include <cstring>

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

namespace {
// This machine's address on the way to `host`; empty if there is no way. Sends nothing.
std::string own_address_towards(const std::string& host) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_DGRAM;
  if (getaddrinfo(host.c_str(), "9", &hints, &found) != 0) return "";
  std::string address;
  for (const addrinfo* to = found; to && address.empty(); to = to->ai_next) {
    const int socket = ::socket(to->ai_family, to->ai_socktype, to->ai_protocol);
    if (socket < 0) continue;
    sockaddr_storage own{};
    socklen_t length = sizeof own;
    char text[NI_MAXHOST];
    if (connect(socket, to->ai_addr, to->ai_addrlen) == 0 &&
        getsockname(socket, reinterpret_cast<sockaddr*>(&own), &length) == 0 &&
        getnameinfo(reinterpret_cast<sockaddr*>(&own), length, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0)
      address = text;
    close(socket);
  }
  freeaddrinfo(found);
  return address;
}
}  // namespace

c10::intrusive_ptr<c10d::Backend> unet::gloo(const Rendezvous& rendezvous) {
  using c10d::ProcessGroupGloo;
  auto options = ProcessGroupGloo::Options::create(rendezvous.timeout);
  const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
  if (interface && *interface) {
    options->devices.push_back(ProcessGroupGloo::createDeviceForInterface(interface));
  } else {
    // Gloo itself would choose the address of the host's name. On many clusters that is the loopback or another
    // network.
    const std::string address = own_address_towards(rendezvous.host);
    options->devices.push_back(address.empty() ? ProcessGroupGloo::createDefaultDevice()
                                               : ProcessGroupGloo::createDeviceForHostname(address));
  }
  return c10::make_intrusive<ProcessGroupGloo>(rendezvous.store, rendezvous.rank, rendezvous.size, options);
}
