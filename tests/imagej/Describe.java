// Opens stacks with ImageJ itself and prints what a user would see of each, a line a stack.
// Run as `java -Djava.awt.headless=true -cp ij.jar Describe.java STACK...`.
import ij.ImagePlus;
import ij.io.Opener;
import ij.measure.Calibration;

public class Describe {
    public static void main(String[] paths) {
        for (String path : paths) {
            ImagePlus image = new Opener().openImage(path);
            Calibration voxel = image.getCalibration();
            double last = image.getStack().getProcessor(image.getStackSize()).getf(5, 3);
            System.out.printf(
                "%d-bit slices=%d %dx%d display=%s..%s voxel=%.4fx%.4fx%.4f %s last=%.6f%n",
                image.getBitDepth(), image.getNSlices(), image.getWidth(), image.getHeight(),
                image.getDisplayRangeMin(), image.getDisplayRangeMax(),
                voxel.pixelWidth, voxel.pixelHeight, voxel.pixelDepth, voxel.getUnit(), last);
        }
    }
}
