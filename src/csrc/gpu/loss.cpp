#include "gpu/loss.h"

#include <torch/torch.h>

#include "gpu/kernel_arguments.h"

namespace unet::gpu {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The number of sums per image, as in kernels/loss.cu.
constexpr int64_t SUMS = 5;

struct BothLosses : torch::autograd::Function<BothLosses> {
  static variable_list forward(AutogradContext* ctx, const Tensor& logits, const Tensor& labels, double epsilon) {
    const Tensor z = logits.contiguous(CHANNELS_LAST), classes = labels.contiguous();
    const int64_t images = z.size(0), pixels = z.size(2) * z.size(3);
    const int64_t slabs = blocks(z, (pixels + 4 * THREADS - 1) / (4 * THREADS));
    const auto fp32 = z.options().dtype(at::kFloat);
    Tensor sums = at::empty({images, slabs, SUMS}, fp32), totals = at::empty({images, SUMS}, fp32);
    Tensor cross_entropy = at::empty({}, fp32), dice = at::empty({}, fp32), slopes = at::empty({images, 2, 2}, fp32);
    Arguments of_sums;
    launch("loss_sums", z, slabs, images, of_sums.tensor(z).tensor(classes).tensor(sums).number(pixels).pointers());
    Arguments of_finish;
    of_finish.tensor(sums)
        .tensor(totals)
        .tensor(cross_entropy)
        .tensor(dice)
        .tensor(slopes)
        .number(images)
        .number(slabs)
        .number(pixels)
        .real(epsilon);
    launch("loss_finish", z, 1, 1, of_finish.pointers());
    ctx->save_for_backward({z, classes, slopes});
    return {cross_entropy, dice};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &z = saved[0], cross_entropy = grads[0].contiguous(), dice = grads[1].contiguous();
    Tensor out = at::empty(z.sizes(), z.options(), CHANNELS_LAST);
    const int64_t pixels = z.size(2) * z.size(3), count = z.size(0) * pixels;
    Arguments arguments;
    arguments.tensor(z)
        .tensor(saved[1])
        .tensor(saved[2])
        .tensor(cross_entropy)
        .tensor(dice)
        .tensor(out)
        .number(count)
        .number(pixels);
    launch_for_each("loss_gradient", z, count, arguments);
    return {out, {}, {}};
  }
};

}  // namespace

std::tuple<Tensor, Tensor> losses(const Tensor& logits, const Tensor& labels, double epsilon) {
  TORCH_CHECK(own_kernels_run_on(logits) && logits.size(1) == 2 && labels.scalar_type() == at::kLong,
              "the own kernels do not suit these logits");
  const variable_list both = BothLosses::apply(logits, labels, epsilon);
  return {both[0], both[1]};
}

}  // namespace unet::gpu
