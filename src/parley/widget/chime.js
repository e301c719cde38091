/** A short sound. Silent on a page that nobody has touched yet: browsers want that. */

const LOUD = 0.08;
const LONG_S = 0.4;

export function chime() {
  if (!navigator.userActivation?.hasBeenActive) return;
  const audio = new AudioContext();
  const [tone, volume] = [audio.createOscillator(), audio.createGain()];
  tone.frequency.value = 660;
  volume.gain.setValueAtTime(LOUD, 0);
  volume.gain.exponentialRampToValueAtTime(0.0001, LONG_S);
  tone.connect(volume).connect(audio.destination);
  tone.onended = () => audio.close();
  tone.start();
  tone.stop(LONG_S);
}
