#include "api/script.h"

#include <memory>
#include <string>

#include <torch/csrc/jit/api/module.h>

using torch::jit::Module;

namespace {
Module new_module(const char* name, const std::shared_ptr<torch::jit::CompilationUnit>& unit) {
  Module module(c10::QualifiedName(name), unit, /*shouldMangle=*/true);
  // Python's `eval` and `train` set this attribute. The network does not use it.
  module.register_attribute("training", c10::BoolType::get(), false);
  return module;
}
}  // namespace

int32_t unet_save_script(const char* path, const char* program, size_t count, const char* const* names,
                         at::Tensor* const* parameters, const char* extra_name, const char* extra_text) {
  return unet::guard([&] {
    const auto unit = std::make_shared<torch::jit::CompilationUnit>();
    Module root = new_module("__torch__.UNet", unit);
    for (size_t i = 0; i < count; i++) {
      Module module = root;
      std::string rest = names[i];
      for (size_t dot; (dot = rest.find('.')) != std::string::npos; rest = rest.substr(dot + 1)) {
        const std::string child = rest.substr(0, dot);
        if (!module.hasattr(child)) module.register_module(child, new_module("__torch__.Layers", unit));
        module = module.attr(child).toModule();
      }
      module.register_parameter(rest, *parameters[i], /*is_buffer=*/false);
    }
    root.define(program);
    root.save(path, {{extra_name, extra_text}});
  });
}
