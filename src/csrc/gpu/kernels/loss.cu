// Cross entropy and soft Dice of two classes, and their gradient (gpu/loss.h). Each pixel has a Pair (head.cu) of
// logits and a class index as its label.

// The probabilities of both classes, and minus the logarithm of the label's probability.
struct Softmax {
  float probability[2], cross_entropy;
};

__device__ __forceinline__ Softmax softmax(Pair logits, long long label) {
  const float lead = to_float(logits.value[1]) - to_float(logits.value[0]);
  // exp of a number below 0 cannot overflow.
  const float e = expf(lead < 0 ? lead : -lead), larger = 1 / (1 + e), smaller = e * larger;
  Softmax result;
  result.probability[0] = lead < 0 ? larger : smaller;
  result.probability[1] = lead < 0 ? smaller : larger;
  const float label_lead = label ? lead : -lead;
  result.cross_entropy = log1pf(e) - (label_lead < 0 ? label_lead : 0);
  return result;
}

// The number of sums over the pixels of an image: one of the cross entropy, one per class of p t, and one per class of
// p^2 + t.
constexpr int SUMS = 5;

// The sums of image blockIdx.y over the pixels of block blockIdx.x: sums[image][block][SUMS].
extern "C" __global__ void loss_sums(const Pair* logits, const long long* labels, float* sums, unsigned pixels) {
  __shared__ float parts[THREADS];
  const unsigned start = blockIdx.y * pixels;
  float sum[SUMS] = {};
  for (unsigned pixel = blockIdx.x * blockDim.x + threadIdx.x; pixel < pixels; pixel += gridDim.x * blockDim.x) {
    const long long label = labels[start + pixel];
    const Softmax found = softmax(logits[start + pixel], label);
    sum[0] += found.cross_entropy;
#pragma unroll
    for (int c = 0; c < 2; c++) {
      const float p = found.probability[c], t = label == c;
      sum[1 + c] += p * t;
      sum[3 + c] += p * p + t;
    }
  }
#pragma unroll
  for (int k = 0; k < SUMS; k++) {
    parts[threadIdx.x] = sum[k];
    __syncthreads();
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
      if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
      __syncthreads();
    }
    if (threadIdx.x == 0) sums[(blockIdx.y * gridDim.x + blockIdx.x) * SUMS + k] = parts[0];
    __syncthreads();
  }
}

// The mean cross entropy and 1 - the mean soft Dice, from the sums of the `blocks` blocks of loss_sums. It runs in one
// block. slopes[image][class] are the two factors by which loss_gradient multiplies t and p. totals[image][SUMS] is
// scratch memory.
extern "C" __global__ void loss_finish(const float* sums, float* totals, float* cross_entropy_loss, float* dice_loss,
                                       float* slopes, unsigned images, unsigned blocks, unsigned pixels,
                                       double epsilon) {
  for (unsigned i = threadIdx.x; i < images * SUMS; i += THREADS) {
    float total = 0;
    for (unsigned block = 0; block < blocks; block++) total += sums[(i / SUMS * blocks + block) * SUMS + i % SUMS];
    totals[i] = total;
  }
  __syncthreads();
  const float added = static_cast<float>(epsilon), ratios = 2.0f * images;
  for (unsigned i = threadIdx.x; i < images * 2; i += THREADS) {
    const float* total = totals + i / 2 * SUMS + i % 2;
    const float overlap = 2 * total[1] + added, size = total[3] + added;
    slopes[2 * i] = 2 / size / ratios;
    slopes[2 * i + 1] = 2 * overlap / (size * size) / ratios;
  }
  if (threadIdx.x != 0) return;
  float cross_entropy = 0, dice = 0;
  for (unsigned image = 0; image < images; image++) {
    const float* total = totals + image * SUMS;
    cross_entropy += total[0];
    for (int c = 0; c < 2; c++) dice += (2 * total[1 + c] + added) / (total[3 + c] + added);
  }
  *cross_entropy_loss = cross_entropy / (static_cast<float>(images) * pixels);
  *dice_loss = 1 - dice / ratios;
}

// The gradient of the logits from the gradients of both losses, for `count` pixels in all, `pixels` of them per image.
extern "C" __global__ void loss_gradient(const Pair* logits, const long long* labels, const float* slopes,
                                         const float* cross_entropy_gradient, const float* dice_gradient, Pair* out,
                                         unsigned count, unsigned pixels) {
  const float cross_entropy_scale = *cross_entropy_gradient / count, dice_scale = *dice_gradient;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    const long long label = labels[i];
    const Softmax found = softmax(logits[i], label);
    const float* slope = slopes + i / pixels * 4;
    // The gradients of the Dice loss for the two probabilities. The probabilities add up to 1.
    float probability_gradient[2];
#pragma unroll
    for (int c = 0; c < 2; c++)
      probability_gradient[c] = slope[2 * c + 1] * found.probability[c] - slope[2 * c] * (label == c);
    const float p0 = found.probability[0], p1 = found.probability[1];
    const float second =
        cross_entropy_scale * (p1 - label) + dice_scale * p0 * p1 * (probability_gradient[1] - probability_gradient[0]);
    out[i] = Pair{{from_float(-second), from_float(second)}};
  }
}
