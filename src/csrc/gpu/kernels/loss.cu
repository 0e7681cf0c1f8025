// Cross entropy and soft Dice of two classes, and their gradient: gpu/loss.h. Logits are a Pair (head.cu) for each
// pixel; labels are class indices.

// Probabilities of both classes, and minus the logarithm of that of `label`.
struct Softmax {
  float probability[2], cross_entropy;
};

__device__ __forceinline__ Softmax softmax(Pair logits, long long label) {
  const float lead = to_float(logits.value[1]) - to_float(logits.value[0]);
  // exp of nothing above 0.
  const float e = expf(lead < 0 ? lead : -lead), larger = 1 / (1 + e), smaller = e * larger;
  Softmax result;
  result.probability[0] = lead < 0 ? larger : smaller;
  result.probability[1] = lead < 0 ? smaller : larger;
  const float of_label = label ? lead : -lead;
  result.cross_entropy = log1pf(e) - (of_label < 0 ? of_label : 0);
  return result;
}

// What the losses need of an image: the sums over its pixels of the cross entropy, of p t for both classes, and of p^2
// + t for both.
constexpr int SUMS = 5;

// Those of the image blockIdx.y, as far as block blockIdx.x has summed them: sums[image][block][SUMS].
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

// Adds up what loss_sums has left of `blocks` blocks (in one block of its own): the mean cross entropy and 1 - the mean
// soft Dice. slopes[image][class] are what loss_gradient multiplies t and p with; totals[image][SUMS] is room to work
// in.
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

// The gradient of the logits from those of both losses, for `count` pixels of all images, `pixels` an image.
extern "C" __global__ void loss_gradient(const Pair* logits, const long long* labels, const float* slopes,
                                         const float* cross_entropy_gradient, const float* dice_gradient, Pair* out,
                                         unsigned count, unsigned pixels) {
  const float of_cross_entropy = *cross_entropy_gradient / count, of_dice = *dice_gradient;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    const long long label = labels[i];
    const Softmax found = softmax(logits[i], label);
    const float* slope = slopes + i / pixels * 4;
    // Of the Dice loss for each probability; the two are each other's rest.
    float of_probability[2];
#pragma unroll
    for (int c = 0; c < 2; c++)
      of_probability[c] = slope[2 * c + 1] * found.probability[c] - slope[2 * c] * (label == c);
    const float p0 = found.probability[0], p1 = found.probability[1];
    const float second = of_cross_entropy * (p1 - label) + of_dice * p0 * p1 * (of_probability[1] - of_probability[0]);
    out[i] = Pair{{from_float(-second), from_float(second)}};
  }
}
